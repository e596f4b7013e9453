"""The part `reasons`: shares of loss and gradient by noise level, conflicts, copying, learning, counterfactuals."""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import JsonValue

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.parts.part import IN_LATENTS, LATENTS, Choices, Found, Part
from debiasctl.analysis.parts.reasons import figures, findings, pictures
from debiasctl.analysis.parts.reasons.copying import Linear, copying, copying_sums
from debiasctl.analysis.parts.reasons.gradients import Fold, Images, Measured, group_gradients
from debiasctl.analysis.parts.reasons.learning import heldout_of, initial_errors, learning, records_of
from debiasctl.analysis.parts.reasons.levels import LevelBin, bins_of
from debiasctl.analysis.parts.reasons.products import GROUPS
from debiasctl.analysis.record import AnalysisRecord
from debiasctl.analysis.subject import Subject
from debiasctl.boundary import name_of
from debiasctl.compute import counter_random
from debiasctl.data.latents import mirrored_of
from debiasctl.data.pixels import to_model_space
from debiasctl.diffusion.objective import Objective
from debiasctl.errors import UsageError
from debiasctl.models.build import network_for
from debiasctl.models.checkpoint_files import load_weights
from debiasctl.models.objective import build_objective, load_learned
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import parse_ref
from debiasctl.reporting.picture import Picture
from debiasctl.runs.manifest import WEIGHT_FILES, verify
from debiasctl.specs.sections import RunSpec

_NUM = 1000
_VALUES = 2**27  # of all gradients that are kept, half a gigabyte
_BATCH = 64
_MOST = 8  # weightings beside the run's own
_LINEAR_IMAGES = 8192


class Reasons(Part):
    """Gradients are those of the run's raw weights, which training moves, and copying that of the weights that sample.

    The objective is the run's own, with everything in it, on training images, mirrored if training mirrors them.
    """

    of_latents: ClassVar[bool] = True
    name: ClassVar[str] = "reasons"
    title: ClassVar[str] = "Reasons: what each noise level has of the loss and of the gradient"

    def settings(self, subject: Subject, others: Sequence[Subject], choices: Choices) -> dict[str, JsonValue]:
        """Resolve the number of images, and the other weightings.

        Raises:
            UsageError: if too few images are asked for, or a weighting is unknown, learned or of another objective.
        """
        if subject.spec.known_weighting is None:
            raise UsageError(
                f"run '{subject.run.name}' was trained elsewhere, with a weighting that nobody has stated, and this is "
                "about the loss of its training. State the weighting by adding the model again: `weighting=constant`"
            )
        asked = _NUM if choices.num is None else choices.num
        num = asked // GROUPS * GROUPS
        if num < GROUPS:
            raise UsageError(
                f"`num` is {asked}: gradients need at least {GROUPS} training images, for {GROUPS} independent groups"
            )
        refs = list(dict.fromkeys(str(complete("weightings", parse_ref(one)).ref) for one in choices.counterfactual))
        refs = [ref for ref in refs if ref != str(subject.spec.loss.weighting.ref)]  # the run's own is measured anyway
        if len(refs) > _MOST:
            raise UsageError(f"`counterfactual` names {len(refs)} weightings. Choose at most {_MOST}")
        _objectives(subject, refs)
        folder = subject.run.checkpoint_path(subject.request.step)
        sums = verify(folder, subject.run, only=WEIGHT_FILES["raw"])
        settings: dict[str, JsonValue] = {
            "images": num,
            "heldout_images": min(asked, len(subject.data.heldout)),
            "seed": choices.seed,
            "gradient_weights": "raw",
            "gradient_weights_sha256": sums[WEIGHT_FILES["raw"]],
        }
        if num != asked:
            settings["asked_images"] = asked
        if subject.space is not None:
            settings[LATENTS] = subject.space.section.sha256
        if refs:
            settings["counterfactual"] = list(refs)
        return settings

    def measure(self, subject: Subject, others: Sequence[Subject], settings: dict[str, JsonValue], book: Book) -> Found:
        """Measure gradients group by group, then copying bin by bin, then the untrained network."""
        refs = [str(one) for one in _list(settings.get("counterfactual"))]
        num, seed = int(str(settings["images"])), int(str(settings["seed"]))
        objectives = _objectives(subject, refs)
        progress = _progress(subject)
        bins = bins_of(objectives[0], progress=progress)
        trained = any(one.requires_grad for one in subject.denoiser.network.parameters())
        groups = _gradient_units(subject, objectives, bins, num=num, seed=seed) if trained else {}
        of_groups = book.all(groups, text="taking gradients", begin=0, end=0.8)
        heldout = subject.heldout(int(str(settings["heldout_images"])))

        @cache
        def linear() -> Linear:
            return Linear.of(subject.train(_LINEAR_IMAGES).x0)

        def of_bin(one: LevelBin) -> Arrays:
            return copying_sums(subject.denoiser, heldout, one, linear(), seed=seed)

        units: dict[str, Callable[[], Arrays]] = {
            f"copying-{number}": partial(of_bin, one) for number, one in enumerate(bins)
        }
        of_bins = book.all(units, text="comparing estimates with their inputs", begin=0.8, end=0.95)
        sums = [of_bins[name]["sums"] for name in units]
        ordered = [of_groups[name] for name in groups]
        found = Found(notes=[_untrained(subject)])
        if ordered:
            found = figures.gradient_figures(
                bins, refs, np.stack([one["gradients"] for one in ordered]),
                np.stack([one["losses"] for one in ordered]),
                size=num // GROUPS, weights=[_mean_weights(one, bins, progress) for one in objectives],
            )  # fmt: skip
        found = figures.together(
            found,
            figures.copying_figures(bins, copying(sums, seed=seed), subject.denoiser.process),
            self._learning(subject, objectives[0], book),
        )
        folded = _folded(ordered[0]) if ordered else []
        notes = [*found.notes, *_rounded(settings), *folded, *_notes(subject, objectives[0])]
        if subject.space is not None:
            notes.append(IN_LATENTS)
        return Found(found.quantities, found.series, notes=notes)

    def findings(self, record: AnalysisRecord) -> list[str]:
        """Say what was found."""
        return findings.sentences(record)

    def pictures(self, records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
        """Draw shares, conflicts, copying and learning."""
        return pictures.of_records(records)

    def _learning(self, subject: Subject, objective: Objective, book: Book) -> Found:
        spec = subject.spec
        records = records_of(subject.run)
        if not records:
            note = (
                f"run '{subject.run.name}' has no held-out errors, so that there are no learning curves: training "
                "measures them at checkpoints, or as often as `training.heldout_every` says"
            )
            return Found(notes=[note])
        initial = None
        if spec.training.init_from is None and records[0].step > 0:

            def unit() -> Arrays:
                heldout = heldout_of(spec, subject.heldout(spec.training.heldout_images))
                errors = initial_errors(spec, objective, heldout)
                return {"errors": np.array([error for _, error in errors])}

            errors = book.all({"initial": unit}, text="measuring the untrained network", begin=0.95, end=1)
            initial = list(zip([one.log_snr for one in records[0].bins], errors["initial"]["errors"], strict=False))
            if len(records[0].bins) != len(errors["initial"]["errors"]):
                initial = None
        curves = learning(
            records, initial, batch_size=spec.training.batch_size, until=subject.request.step
        )  # fmt: skip
        return figures.learning_figures(curves, bins_of(objective, progress=_progress(subject)))


def _untrained(subject: Subject) -> str:
    return (
        f"the network of run '{subject.run.name}' has no parameters to train, so that there are no gradients, and no "
        "shares of them and of the loss"
    )


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _progress(subject: Subject) -> float:
    return min(1.0, subject.request.step / subject.spec.training.steps)


def _objectives(subject: Subject, refs: Sequence[str]) -> list[Objective]:
    """The run's objective at the checkpoint, and those with other weightings.

    Raises:
        UsageError: if one is learned, or changes more than weights.
    """
    spec, progress = subject.spec, _progress(subject)
    own = build_objective(spec, warn=False)
    load_learned(subject.run, own, step=subject.request.step)
    base = own.tables(progress).base
    found = [own]
    for ref in refs:
        choice = complete("weightings", parse_ref(ref))
        other = build_objective(_with(spec, ref), warn=False)
        name = name_of(other.weighting, "weighting")
        if other.learned is not None:
            raise UsageError(
                f"`counterfactual`: {name} is learned, and what it would have learnt is not known from this run. "
                "Choose one that is not learned"
            )
        if not torch.equal(other.tables(progress).base, base):
            raise UsageError(
                f"`counterfactual`: with {choice.name} the run's `timesteps` would draw t for another objective, whose "
                "gradients are not this run's with other weights. Leave it out"
            )
        found.append(other)
    return found


def _with(spec: RunSpec, ref: str) -> RunSpec:
    loss = spec.loss.model_copy(update={"weighting": complete("weightings", parse_ref(ref))})
    return spec.model_copy(update={"loss": loss})


def _gradient_units(
    subject: Subject, objectives: Sequence[Objective], bins: Sequence[LevelBin], *, num: int, seed: int
) -> dict[str, Callable[[], Arrays]]:
    """A unit for each group of images, each of which is used once at each noise level."""
    spec = subject.spec
    dtype = torch.float64 if spec.compute.precision == "fp64" else torch.float32

    @cache
    def prepared() -> tuple[Measured, Fold]:
        content = subject.content
        network = network_for(spec, content)
        load_weights(subject.run, network, step=subject.request.step, weights="raw")
        network = network.to(subject.device, dtype).train()  # dropout is part of the loss
        measured = Measured(
            network, objectives, bins, _progress(subject), seed,
            batch=min(_BATCH, max(1, spec.training.batch_size // spec.compute.accumulation)),
            flips=spec.data.horizontal_flip, label_dropout=spec.model.label_dropout,
            null_label=len(content.classes) if spec.model.label_dropout else None,
        )  # fmt: skip
        size = sum(one.numel() for one in measured.parameters)
        return measured, Fold(size, _VALUES // (GROUPS * len(bins) * len(objectives)))

    def group(number: int) -> Arrays:
        measured, fold = prepared()
        return group_gradients(measured, _images(subject, number, size=num // GROUPS, seed=seed, dtype=dtype), fold)

    return {f"gradients-{number}": partial(group, number) for number in range(GROUPS)}


def _images(subject: Subject, group: int, *, size: int, seed: int, dtype: torch.dtype) -> Images:
    """A group's training images, drawn without replacement as far as there are enough, and independently of others.

    Groups that shared out the images among them would be the less alike, and products of their gradients too small.
    """
    split, positions = subject.data.train, torch.arange(group * size, (group + 1) * size)
    order = counter_random.order(seed, epoch=group, size=len(split))
    indices = order[torch.arange(size) % len(split)]
    labels = split.labels(indices) if subject.is_conditional else None
    x0 = to_model_space(split.images(indices).to(subject.device)).to(dtype)
    other = mirrored_of(split)
    mirrored = None if other is None else other.images(indices).to(subject.device, dtype)
    return Images(x0, None if labels is None else labels.to(subject.device), positions, mirrored)


def _mean_weights(objective: Objective, bins: Sequence[LevelBin], progress: float) -> list[float]:
    """The mean weight on the network's output in each bin, by the tables."""
    weight = objective.tables(progress).weight
    return [float((weight[one.timesteps] * one.probability).sum()) for one in bins]


def _rounded(settings: dict[str, JsonValue]) -> list[str]:
    """That fewer images were used than were asked for, if so."""
    asked, num = settings.get("asked_images"), settings["images"]
    if asked is None:
        return []
    return [
        f"gradients were taken on {num} training images, not {asked}: they are divided into {GROUPS} groups of one size"
    ]


def _folded(group: Arrays) -> list[str]:
    size, width = int(group["size"][0]), group["gradients"].shape[-1]
    if size <= width:
        return []
    return [
        f"products of gradients are those of {width:,} sums of their {size:,} values with random signs, which adds "
        f"about {1 / width**0.5:.1g} to a cosine of two groups' gradients, far less than the draw of images does"
    ]


def _notes(subject: Subject, objective: Objective) -> list[str]:
    spec, found = subject.spec, []
    if spec.extensions:
        names = ", ".join(one.name for one in spec.extensions)
        found.append(f"gradients are those of the loss alone: what the run's extensions ({names}) do to them is not in")
    if objective.learned is not None:
        found.append(
            "the weighting is learned: weights are those at the checkpoint, e^-u, and its own term +u, which does not "
            "move the network, is left out of the loss"
        )
    if objective.parameterization.learned_variance:
        found.append("the loss includes the term that trains the learned variance, which no weighting changes")
    return found
