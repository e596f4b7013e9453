"""Stitched sampling: one network makes the first steps and another the rest, so that each step's damage is seen."""

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from pydantic import JsonValue

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.denoisers import Stitched
from debiasctl.analysis.parts.impact_figures import bracket
from debiasctl.analysis.parts.impact_levels import levels_of, log_snr_of
from debiasctl.analysis.parts.part import Choices, Found, Part
from debiasctl.analysis.parts.stitching_figures import Carried, Measured, carried
from debiasctl.analysis.parts.stitching_images import Ways, measure_all, measurement_of, thresholds_of, units
from debiasctl.analysis.parts.stitching_pictures import stitching_pictures
from debiasctl.analysis.parts.stitching_words import stitching_findings
from debiasctl.analysis.record import AnalysisRecord, Quantity, Series
from debiasctl.analysis.subject import Subject
from debiasctl.errors import UsageError
from debiasctl.evaluation.metrics.catalogue import default_features
from debiasctl.evaluation.uncertainty.intervals import MIN_IMAGES
from debiasctl.reporting.picture import Picture

_LOG = logging.getLogger(__name__)
NUM = 256
_SHARES = (0.02, 0.1, 0.25, 0.5)  # of the steps, at which the networks are exchanged: closer where the noise is most


class Stitching(Part):
    """Samples of a run's network above a noise level and another's below it, both ways, over levels."""

    name: ClassVar[str] = "stitching"
    title: ClassVar[str] = "Stitching: at which steps the difference of two networks arises"
    needs_other: ClassVar[bool] = True
    asked_as: ClassVar[str | None] = "impact"
    averages: ClassVar[bool] = True

    def settings(self, subject: Subject, others: Sequence[Subject], choices: Choices) -> dict[str, JsonValue]:
        """See `Part`."""
        (other,) = others
        num = NUM if choices.num is None else choices.num
        if num < 2:
            raise UsageError(f"`num={num}`: stitched samples are compared by at least 2 images")
        _check_alike(subject, other)
        request = subject.request
        cuts = cuts_of(request.num_steps)
        thresholds_of(subject, cuts)
        return {
            "sampler": str(request.sampler.ref),
            "steps": request.num_steps,
            "seed": request.seed,
            "label": request.label,
            "precision": request.precision,
            "images": num,
            "cuts": list(cuts),
            "features": list(default_features(subject.images.info)),
        }

    def measure(self, subject: Subject, others: Sequence[Subject], settings: dict[str, JsonValue], book: Book) -> Found:
        """See `Part`."""
        (other,) = others
        num, cuts = int(str(settings["images"])), cuts_of(subject.request.num_steps)
        measurement, notes = measurement_of(subject, num)
        ways = Ways(subject.denoiser, other.denoiser, thresholds_of(subject, cuts))
        steps = num * subject.request.num_steps * len(ways.networks)
        _LOG.info(
            "stitching '%s' and '%s': %s sampling steps of an image", subject.run.name, other.run.name, f"{steps:,}"
        )
        found = book.all(units(subject, ways, num, measurement), text="stitched samples", begin=0.0, end=0.9)
        rows: dict[str, Arrays] = {}
        for unit, arrays in found.items():
            name = unit.rpartition(".")[0]
            before = rows.get(name)
            rows[name] = arrays if before is None else _joined(before, arrays)
        measured = measure_all(subject, rows, measurement, num)
        arms, runs = (subject.arm, other.arm), (subject.run.name, other.run.name)
        names = runs if arms[0] == arms[1] else arms
        quantities, curves = [], []
        for metric in measurement.metrics:
            if metric not in measured["this"]:
                continue
            parts = {
                first: {cut: measured[ways.named(first, cut)][metric] for cut in cuts} for first in ("this", "other")
            }
            curves += [_curve(metric, first, parts[first], names) for first in ("this", "other")]
            total, ranges = carried(parts["this"], parts["other"])
            quantities += _quantities(metric, total, ranges, _spans(subject, cuts), names)
        return Found(quantities, curves, {}, [*notes, *self._notes(settings, steps, subject.run.name)])

    def _notes(self, settings: dict[str, JsonValue], steps: int, run: str) -> list[str]:
        notes = [
            "intervals cover the choice of noises, which all sets of images share, not the seeds of training",
            f"the noises, the classes and the sampler are those of run '{run}'",
            f"cost: {steps:,} sampling steps of an image",
        ]
        if int(str(settings["images"])) < MIN_IMAGES:
            notes.append(f"there are no intervals, which need {MIN_IMAGES} images: raise `num`")
        return notes

    def findings(self, record: AnalysisRecord) -> list[str]:
        """See `Part`."""
        return stitching_findings(record)

    def pictures(self, records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
        """See `Part`."""
        return stitching_pictures(records)


def cuts_of(num_steps: int) -> list[int]:
    """The numbers of first steps after which the networks are exchanged: none, some, all."""
    inner = {min(max(round(share * num_steps), 1), num_steps) for share in _SHARES}
    return sorted({0, *inner, num_steps})


def _check_alike(subject: Subject, other: Subject) -> None:
    """Check that two networks can make the steps of one sample.

    Raises:
        UsageError: if their data, classes, image sizes or processes differ.
    """
    one, two = f"'{subject.run.name}'", f"'{other.run.name}'"
    way_on = "Choose runs of one data set and one schedule"
    if subject.spec.latents_sha256 != other.spec.latents_sha256:
        raise UsageError(
            f"runs {one} and {two} cannot be stitched: they make latents of different autoencoders, or one makes "
            "images. Choose runs of one autoencoder"
        )
    if subject.shape != other.shape:
        sizes = " and ".join("x".join(map(str, shape)) for shape in (subject.shape, other.shape))
        raise UsageError(f"runs {one} and {two} cannot be stitched: their images are of {sizes} values. {way_on}")
    if not subject.content.same_images(other.content):
        raise UsageError(
            f"runs {one} and {two} cannot be stitched: they were trained on different images, and what differs between "
            f"their samples need not come from the networks. {way_on}"
        )
    if subject.is_conditional != other.is_conditional:
        given = one if subject.is_conditional else two
        raise UsageError(
            f"runs {one} and {two} cannot be stitched: only {given} is given classes. Choose runs that both are, or "
            "neither"
        )
    guidance = getattr(subject.request.sampler.create("samplers").options, "guidance", 1)
    if guidance != 1 and subject.denoiser.null_label != other.denoiser.null_label:
        raise UsageError(
            f"runs {one} and {two} cannot be stitched with guidance: one of them was trained without label dropout. "
            "Leave guidance out of `sampler`"
        )
    try:
        Stitched(subject.denoiser, other.denoiser, threshold=0.0)
    except UsageError as error:
        raise UsageError(
            f"runs {one} and {two} cannot be stitched: their schedules differ, so that a timestep is another noise "
            f"level in each. {way_on}"
        ) from error


def _joined(before: Arrays, after: Arrays) -> Arrays:
    return {name: torch.cat([torch.from_numpy(before[name]), torch.from_numpy(after[name])]).numpy() for name in before}


def _spans(subject: Subject, cuts: Sequence[int]) -> list[tuple[str, str]]:
    """Each range of steps as it stands in a figure's name, and in words with the log-SNRs at which its steps begin."""
    request = subject.request
    name = request.sampler.name
    levels = levels_of(request.sampler.create("samplers"), subject.process, request.num_steps, name=name)
    spans = []
    for start, end in pairwise(cuts):
        steps = f"steps {start + 1}-{end}" if end > start + 1 else f"step {end}"
        low, high = log_snr_of(levels[start]), log_snr_of(levels[end - 1])
        at = f"log SNR {low:.1f}" if end == start + 1 else f"log SNR {low:.1f} to {high:.1f}"
        spans.append((steps, f"{steps.replace('-', ' to ')} ({at})"))
    return spans


def _curve(metric: str, first: str, found: Mapping[int, Measured], names: tuple[str, str]) -> Series:
    one, rest = names if first == "this" else names[::-1]
    measured = [found[cut] for cut in sorted(found)]
    known = all(part.low is not None for part in measured)
    return Series(
        name=f"{metric}[{first} first]", axis="steps", x=[float(cut) for cut in sorted(found)],
        value=[part.value for part in measured],
        low=[part.low for part in measured] if known else None,
        high=[part.high for part in measured] if known else None,
        text=f"{metric} of images of which '{one}' makes so many first steps and '{rest}' the others",
    )  # fmt: skip


def _quantities(
    metric: str, total: Carried, ranges: Sequence[Carried], spans: Sequence[tuple[str, str]], names: tuple[str, str]
) -> list[Quantity]:
    whole = f"change of {metric} from '{names[0]}' to '{names[1]}'"
    found = [_figure(f"stitched_change{bracket(metric)}", total, f"{whole}, all steps")]
    for part, (steps, words) in zip(ranges, spans, strict=True):
        text = f"{whole} by {words}, mean of both orders of exchange"
        found.append(_figure(f"stitched_change{bracket(metric, steps)}", part, text))
        if part.share is not None and part.share_limits is not None:
            low, high = part.share_limits
            found.append(
                Quantity(
                    name=f"stitched_share{bracket(metric, steps)}", value=part.share, low=min(low, part.share),
                    high=max(high, part.share), text=f"part of the {whole} by {words}",
                )
            )  # fmt: skip
    return found


def _figure(name: str, part: Carried, text: str) -> Quantity:
    if part.interval is None:
        return Quantity(name=name, value=part.value, text=text)
    ends = part.interval.low, part.interval.high, part.interval.estimate
    return Quantity(name=name, value=part.interval.estimate, low=min(ends), high=max(ends), text=text)
