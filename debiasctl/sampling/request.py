"""What to draw: a validated request, and the classes of its images."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from debiasctl.api import Sampler
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.diffusion.grid_sampler import SamplerOptions
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.errors import UsageError
from debiasctl.models.build import build_parameterization
from debiasctl.models.outside_code import trusted_backbone
from debiasctl.models.weights import weights_name
from debiasctl.reading.user_text import whole_number
from debiasctl.registry.choices import PluginChoice
from debiasctl.registry.refs import parse_ref
from debiasctl.runs.guides import Guide
from debiasctl.runs.pins import choose_step
from debiasctl.runs.store import Run
from debiasctl.sampling.guidance import check_guide
from debiasctl.specs.latents import are_bounded, complete_sampler
from debiasctl.specs.recorded import ContentSection
from debiasctl.specs.sections import RunSpec
from debiasctl.wording import did_you_mean, quoted

_LOG = logging.getLogger(__name__)
_STEPS = 50  # the usual number of sampling steps
_MOST_IMAGES, _MOST_STEPS = 10**8, 10**6
_GOLDEN_RATIO = 0.6180339887498949
_INDEX = "index:"
Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class SampleRequest:
    """What to draw, and everything that the pixels depend on apart from the weights.

    `step` is the checkpoint's; `label` one class for all images, or None for the data's mixture; `precision` that of
    the network alone (autocast); `compile` its torch.compile, whose fused sums round differently. `guide` is the weaker
    network that the sampler's guidance leads away from, if it is not the network's own without a class.
    """

    num: int
    num_steps: int
    sampler: PluginChoice
    seed: int
    step: int
    weights: str
    label: int | None = None
    precision: Precision = "fp32"
    compile: bool = False
    guide: Guide | None = None


def make_request(
    run: Run,
    spec: RunSpec,
    *,
    num: int,
    num_steps: int,
    sampler: str,
    seed: int | None,
    checkpoint: str | None,
    weights: str,
    class_name: str | None = None,
    precision: str = "fp32",
    compile: bool = False,
    guide: Guide | None = None,
) -> SampleRequest:
    """A request from what a user asked for; without a seed it takes the run's training seed.

    Runs that all were sampled with one seed share its sampling error, which then does not average out over them.

    Raises:
        UsageError: if the sampler, precision, class or checkpoint is unknown, the sampler cannot make these steps
        on the run's schedule, or the guide does not fit; CheckpointError: if the run has no checkpoint at all.
        ModelError: if a network is code that nobody has named here.
    """
    weights = weights_name(weights)
    given = parse_ref(sampler)
    choice = complete_sampler(given, bounded=are_bounded(spec))
    label = None if class_name is None else class_index(class_name, spec)
    if num < 1:
        raise UsageError(f"`num={num}`: draw at least one image")
    if num > _MOST_IMAGES:
        raise UsageError(f"`num={num}`: draw at most {_MOST_IMAGES:,} images")
    if num_steps > _MOST_STEPS:
        raise UsageError(f"{num_steps} sampling steps: choose at most {_MOST_STEPS:,}")
    chosen = next((known for known in PRECISIONS if known == precision), None)
    if chosen is None:
        raise UsageError(f"`precision={precision}`: choose {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
    try:
        check_steps(choice, build_parameterization(spec).process, num_steps)
    except UsageError as error:
        raise UsageError(f"run '{run.name}': {error}") from error
    trusted_backbone(spec)
    step = choose_step(run, checkpoint)
    seed = spec.training.seed if seed is None else seed
    if guide is not None:
        guide = replace(guide, weights=weights_name(guide.weights, argument="guide=RUN:weights"))
        trusted_backbone(guide.run.spec())
        check_guide(
            guide,
            run,
            spec,
            step=step,
            weights=weights,
            given=given,
            sampler=choice.create("samplers"),
            steps=num_steps,
        )
    return SampleRequest(num, num_steps, choice, seed, step, weights, label, chosen, compile, guide)


def default_steps(specs: Sequence[RunSpec]) -> int:
    """The sampling steps if none are given: 50, or the timesteps of the shortest schedule that has fewer."""
    return min(_STEPS, *(build_parameterization(spec).process.num_timesteps for spec in specs))


def check_steps(sampler: PluginChoice, process: DiffusionProcess, num_steps: int) -> None:
    """Refuse steps that the sampler says it cannot make, and warn where its guidance_interval has none of them.

    Raises:
        UsageError: if there is less than one step, or the schedule has fewer timesteps.
    """
    if num_steps < 1:
        raise UsageError(f"{num_steps} sampling steps: choose 1 or more")
    made: Sampler = sampler.create("samplers")
    levels, options = made.grid(process, num_steps), made.options
    if not levels or not isinstance(options, SamplerOptions) or options.guidance_interval is None:
        return
    if options.guidance != 1 and not any(level.sigma > 0 and options.guides_at(level) for level in levels):
        _LOG.warning("no noise level of %d steps lies within guidance_interval: nothing is guided", num_steps)


def labels_of(indices: Tensor, content: ContentSection, *, seed: int, label: int | None) -> Tensor:
    """The class of each image, int64 [N]: `label`, or classes in the training data's proportions.

    The i-th image takes the class at the quantile (u + i φ) mod 1, u drawn from the seed: a sequence that keeps to
    the proportions far more closely than independent draws, in any prefix of it.
    """
    if label is not None:
        return torch.full_like(indices, label)
    offset = counter_random.uniform(seed, Stream.LABEL, step=0, positions=torch.zeros(1, dtype=torch.int64))
    quantiles = (offset + indices.to(torch.float64) * _GOLDEN_RATIO) % 1
    counts = content.class_counts or [1] * len(content.classes)  # evenly, where nothing says how common each is
    cumulative = torch.tensor(counts, dtype=torch.float64).cumsum(0)
    return torch.searchsorted(cumulative / cumulative[-1], quantiles, right=True).clamp(max=len(cumulative) - 1)


def class_index(text: str, spec: RunSpec) -> int:
    """The class that a name, or an index from 0, stands for.

    `index:3` is always an index; `3` is one only if no class has a number as its name.

    Raises:
        UsageError: if the model was trained without classes, or has no such class.
    """
    classes = spec.content.classes if spec.content and spec.model.conditional else ()
    if not classes:
        raise UsageError("this run's model was trained without class labels. Leave `class_name` out")
    if text in classes:
        return _trained(classes.index(text), spec)
    numbered = any(name.strip().lstrip("+-").isdecimal() for name in classes)
    index = text.removeprefix(_INDEX) if text.startswith(_INDEX) or not numbered else ""
    number = whole_number(index)
    if number is not None and number < len(classes):
        return _trained(number, spec)
    indices = f"{_INDEX}0 to {_INDEX}{len(classes) - 1}" if numbered else f"0 to {len(classes) - 1}"
    more = f" and {len(classes) - 50} more" if len(classes) > 50 else ""
    raise UsageError(
        f"unknown class {quoted(text)}.{did_you_mean(text, classes)} "
        f"Known: {', '.join(classes[:50])}{more}; or by index, {indices}"
    )


def _trained(index: int, spec: RunSpec) -> int:
    """The class, which must have been trained on.

    Raises:
        UsageError: if it had no training image, so that what the network holds for it is random.
    """
    assert spec.content is not None, "a run's spec states its data's content"
    classes, counts = spec.content.classes, spec.content.class_counts
    if counts and not counts[index]:
        trained = [name for name, count in zip(classes, counts, strict=True) if count]
        raise UsageError(
            f"class '{classes[index]}' had no training image, so the model never learnt it. "
            f"Learnt: {', '.join(trained[:50])}"
        )
    return index
