"""Whether a run can be sampled with a guide, a weaker network to lead away from (autoguidance, arXiv 2406.02507)."""

from collections.abc import Sequence

from debiasctl.api import Level, Sampler
from debiasctl.diffusion.grid_sampler import SamplerOptions
from debiasctl.diffusion.guided import timestep_alike
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.errors import UsageError
from debiasctl.files import content_key
from debiasctl.models.build import build_parameterization
from debiasctl.registry.refs import PluginRef
from debiasctl.runs.guides import SELF, Guide
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec


def check_guide(
    guide: Guide, run: Run, spec: RunSpec, *, step: int, weights: str, given: PluginRef, sampler: Sampler, steps: int
) -> None:
    """Check that the network of `run` at `step` can be guided in so many steps by the sampler that `given` names.

    Raises:
        UsageError: if the sampler has no guidance, or none is given; if the two networks' images or classes differ; if
        the guide needs classes that there are not; if its schedule lacks a noise level; or if they are one network.
    """
    options = sampler.options
    if not isinstance(options, SamplerOptions):
        raise UsageError(f"`guide`: sampler '{given.name}' has no guidance. Choose another `sampler`, such as ddim")
    if "guidance" not in given.options:
        raise UsageError(f"`guide` has no effect without a scale. Give one: `sampler={given.name}:guidance=2`")
    guide_spec = guide.run.spec()
    _check_content(guide, guide_spec, run, spec)
    if guide.is_self and (guide.step, guide.weights, guide.unconditional) == (step, weights, False):
        earlier = [one for one in run.checkpoint_steps() if 0 < one < step]
        way_on = (
            f"an earlier checkpoint (it has {', '.join(map(str, earlier))}): `guide={SELF}:checkpoint=N`"
            if earlier
            else "another run: `guide=RUN`"
        )
        raise UsageError(
            f"`guide`: checkpoint {step} of run '{run.name}' with {weights} weights is the network that is to be "
            f"guided, so that guidance changes nothing. Name {way_on}"
        )
    process, other = build_parameterization(spec).process, build_parameterization(guide_spec).process
    try:
        _check_levels(process, other, sampler.grid(process, steps) or (), options)
    except UsageError as error:
        raise UsageError(f"`guide`: run '{guide.run.name}' cannot guide run '{run.name}': {error}") from error


def is_unconditional(guide: Guide, spec: RunSpec) -> bool:
    """Whether the guide of a run with this spec is asked without a class."""
    return guide.unconditional or not spec.model.conditional or not guide.run.spec().model.conditional


def network_key(spec: RunSpec) -> str:
    """A key of what a network's estimates follow from, apart from its weights."""
    return content_key(
        {"model": spec.model.model_dump(mode="json"), "diffusion": spec.diffusion.model_dump(mode="json")}
    )


def _check_content(guide: Guide, guide_spec: RunSpec, run: Run, spec: RunSpec) -> None:
    """Check the form of images and classes.

    Raises:
        UsageError: if they do not fit each other.
    """
    ours, theirs = run.content(spec), guide.run.content(guide_spec)
    pair = f"`guide`: run '{guide.run.name}' cannot guide run '{run.name}'"
    shapes = [f"{one.channels}x{one.image_size}x{one.image_size}" for one in (theirs, ours)]
    if shapes[0] != shapes[1]:
        raise UsageError(f"{pair}: its images are {shapes[0]}, and this run's {shapes[1]}. Choose a run of this shape")
    if guide_spec.latents != spec.latents:
        raise UsageError(
            f"{pair}: they make latents of different autoencoders or of different shift and scale, or one makes "
            "images. Choose a run with the same `data.autoencoder`, trained on the same images"
        )
    has_classes = guide_spec.model.conditional
    if guide.unconditional and not has_classes:
        raise UsageError(f"{pair} with unconditional=true: it was trained without classes. Leave that out")
    if has_classes and is_unconditional(guide, spec) and not guide_spec.model.label_dropout:
        why = "without a class" if guide.unconditional else "of a run without classes"
        raise UsageError(
            f"{pair} {why}: it was trained with classes and without label dropout, so that it has no estimate without "
            "one. Choose a run without classes, or one with `model.label_dropout=0.1`"
        )
    if has_classes and not is_unconditional(guide, spec) and ours.classes != theirs.classes:
        raise UsageError(
            f"{pair}: it was trained with other classes ({_few(theirs.classes)}; this run has {_few(ours.classes)}). "
            "Choose a run with the same classes in the same order, or one without classes"
        )


def _few(classes: Sequence[str]) -> str:
    return ", ".join(classes[:3]) + (f", … {len(classes)} in all" if len(classes) > 3 else "")


def _check_levels(
    process: DiffusionProcess, other: DiffusionProcess, grid: Sequence[Level], options: SamplerOptions
) -> None:
    for level in grid:
        if level.sigma > 0 and options.guides_at(level):
            timestep_alike(process, other, level.t)
