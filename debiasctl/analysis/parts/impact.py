"""Impact: what the bias does along sampling trajectories, and how much of it training and sampling each make."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import torch
from pydantic import JsonValue
from torch import Tensor

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.parts.impact_figures import PIXEL, Layout, quantity
from debiasctl.analysis.parts.impact_findings import findings
from debiasctl.analysis.parts.impact_finished import between_noises, drift_series, finished, finished_figures
from debiasctl.analysis.parts.impact_forced import forced, forced_figures
from debiasctl.analysis.parts.impact_levels import (
    NOISIEST,
    RealMeans,
    bands_of,
    channel_names,
    chosen_indices,
    levels_of,
    log_snr_of,
    observed_steps,
    real_means,
)
from debiasctl.analysis.parts.impact_means import strata
from debiasctl.analysis.parts.impact_paths import draw_trajectories, force, joined
from debiasctl.analysis.parts.impact_pictures import impact_pictures
from debiasctl.analysis.parts.part import Choices, Found, Part
from debiasctl.analysis.record import AnalysisRecord
from debiasctl.analysis.subject import Subject
from debiasctl.errors import UsageError
from debiasctl.reporting.picture import Picture
from debiasctl.sampling.request import check_steps

_LOG = logging.getLogger(__name__)
STEPS = (2, 3, 4, 5, 10, 50, 100, 500, 1000)  # the paper's, from one noise (arXiv 2310.08442, Fig. 1)
NUM = 256
FEWEST = 32  # images of the longest trajectories
SHOWN = 12  # noises in the picture
_FULL = 100  # steps up to which all images are drawn
_HELDOUT = 32  # images needed for teacher forcing on held-out ones
_UNIT = 12_800  # forwards of an image in a unit of work, roughly


class Impact(Part):
    """Trajectories in few and many steps from the same noises, and teacher forcing at the levels of the usual steps."""

    name: ClassVar[str] = "impact"
    title: ClassVar[str] = "Impact: what the bias does to samples"
    averages: ClassVar[bool] = True

    def settings(self, subject: Subject, others: Sequence[Subject], choices: Choices) -> dict[str, JsonValue]:
        """See `Part`."""
        request = subject.request
        num = NUM if choices.num is None else choices.num
        if num < 2:
            raise UsageError(f"`num={num}`: an interval needs at least 2 images")
        levels_of(
            request.sampler.create("samplers"), subject.process, request.num_steps, name=request.sampler.name
        )  # fmt: skip
        chosen = _trajectories(subject, choices.trajectories)
        heldout = len(chosen_indices(subject.data.heldout, request.label, num))
        train = len(chosen_indices(subject.data.train, request.label, num))
        split = "heldout" if heldout >= min(num, _HELDOUT) else "train"
        return {
            "sampler": str(request.sampler.ref),
            "steps": request.num_steps,
            "seed": request.seed,
            "noise_seed": choices.seed,
            "label": request.label,
            "precision": request.precision,
            "trajectories": {str(steps): images_for(steps, num) for steps in chosen},
            "forced_split": split,
            "forced_images": heldout if split == "heldout" else train,
        }

    def measure(self, subject: Subject, others: Sequence[Subject], settings: dict[str, JsonValue], book: Book) -> Found:
        """See `Part`."""
        numbers = _numbers(settings)
        usual, kept = subject.request.num_steps, min(numbers.values())
        steps = sum(steps * num for steps, num in numbers.items())
        _LOG.info("impact of '%s': %s sampling steps of an image, and teacher forcing", subject.run.name, f"{steps:,}")
        found = book.all(
            _units(subject, settings, numbers, kept=kept),
            text="trajectories and teacher forcing", begin=0.0, end=1.0,
        )  # fmt: skip
        real = RealMeans(**found.pop("data"))
        layout = Layout(channel_names(subject.image_shape[0]), bands_of(subject.image_shape[1]))
        drawn = {steps: _of(found, f"T{steps}") for steps in numbers}
        labels = {steps: _labels(subject, num) for steps, num in numbers.items()}
        longest, most = max(numbers), max(numbers, key=lambda steps: (numbers[steps], steps == usual))
        drift = [
            one
            for steps, rows in drawn.items()
            for one in drift_series(
                steps, _log_snr(subject, steps), rows, real, layout, classes=strata(labels[steps])
            )
        ]  # fmt: skip
        ends = [
            finished(
                steps, rows, drawn[most], real, strata(labels[most]),
                longest=None if steps == longest else drawn[longest]["images"],
            )
            for steps, rows in drawn.items()
        ]  # fmt: skip
        of_training = forced(_log_snr(subject, usual), drawn[usual], real, _of(found, "true"), strata(labels[usual]))
        quantities, curves = finished_figures(ends, layout, shown=[min(numbers), usual, longest])
        apart = between_noises(drawn[longest]["images"])
        if apart is not None and len(numbers) > 1:
            quantities.append(
                quantity(
                    "image_distance[different noises]", float(apart.value), apart, unit=PIXEL,
                    text="root mean square distance, over pixels, of the images of different noises in the most steps",
                )
            )  # fmt: skip
        more, forced_curves = forced_figures(of_training, layout)
        return Found(
            quantities + more,
            curves + forced_curves + drift,
            {f"same_noise_{steps}": rows["images"][:SHOWN] for steps, rows in drawn.items()},
            self._notes(subject, settings, drawn),
        )

    def _notes(self, subject: Subject, settings: dict[str, JsonValue], drawn: Mapping[int, Arrays]) -> list[str]:
        numbers = _numbers(settings)
        images, split = settings["forced_images"], settings["forced_split"]
        observed = len(observed_steps(subject.request.num_steps))
        forwards = sum(float(drawn[steps]["forwards"][0]) * num for steps, num in numbers.items())
        notes = [
            "intervals cover the choice of noises and images, not the seeds of training",
            f"cost: {forwards + observed * float(str(images)):,.0f} forwards of the network for an image",
            "images: " + ", ".join(f"{num} in {steps} steps" for steps, num in numbers.items()),
        ]
        if split == "train":
            notes.append(
                "too few images are held out for teacher forcing, which was done on training images: those the network "
                "has seen"
            )
        else:
            notes.append(f"teacher forcing was done on {images} held-out images")
        if subject.space is not None:
            notes.append(
                "the network makes latents: all figures are those of decoded images, beside what the latents of real "
                "images decode to"
            )
        if any(float(rows["adds_noise"][0]) for rows in drawn.values()):
            notes.append(
                f"sampler '{settings['sampler']}' adds noise at every step, so that images of one first noise in "
                "different numbers of steps differ by that noise too"
            )
        if any(log_snr == NOISIEST for log_snr in _log_snr(subject, subject.request.num_steps)):
            notes.append(f"the level without any signal, of SNR 0, stands at a log SNR of {NOISIEST:g}")
        return notes

    def findings(self, record: AnalysisRecord) -> list[str]:
        """See `Part`."""
        return findings(record)

    def pictures(self, records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
        """See `Part`."""
        return impact_pictures(records, images)


def images_for(steps: int, num: int) -> int:
    """How many images are drawn in that many steps: fewer of the longest trajectories, whose cost would be all."""
    if steps <= _FULL:
        return num
    return min(num, max(FEWEST, -(-num * _FULL // steps // 16) * 16))


def _trajectories(subject: Subject, given: Sequence[int] | None) -> list[int]:
    """The numbers of steps, in rising order; those of the run's request are among them.

    Raises:
        UsageError: if the sampler cannot make a number that was given.
    """
    request = subject.request
    chosen = {request.num_steps}
    for steps in STEPS if given is None else given:
        try:
            check_steps(request.sampler, subject.process, steps)
        except UsageError:
            if given is not None:
                raise
            continue
        chosen.add(steps)
    return sorted(chosen)


def _numbers(settings: dict[str, JsonValue]) -> dict[int, int]:
    stated = settings["trajectories"]
    assert isinstance(stated, dict), "as the method settings made it"
    return {int(steps): int(str(num)) for steps, num in stated.items()}


def _units(
    subject: Subject, settings: dict[str, JsonValue], numbers: Mapping[int, int], *, kept: int
) -> dict[str, Callable[[], Arrays]]:
    """The units of work, the longest first, so that several processes end together."""
    usual = subject.request.num_steps
    units: dict[str, Callable[[], Arrays]] = {}
    for steps, num in sorted(numbers.items(), reverse=True):
        size = max(FEWEST, _UNIT // steps // 16 * 16)
        for start in range(0, num, size):
            part = range(start, min(start + size, num))
            units[f"T{steps}.{start}"] = partial(
                draw_trajectories, subject, steps, part, kept=kept, own=steps == usual
            )  # fmt: skip
    split = subject.data.heldout if settings["forced_split"] == "heldout" else subject.data.train
    images, seed = int(str(settings["forced_images"])), int(str(settings["noise_seed"]))
    for start in range(0, images, NUM):
        part = range(start, min(start + NUM, images))
        units[f"true.{start}"] = partial(force, subject, split, part, num=images, num_steps=usual, seed=seed)
    return units | {"data": partial(real_means, subject)}


def _of(found: Mapping[str, Arrays], name: str) -> Arrays:
    """The units of one kind, end to end."""
    return joined([arrays for key, arrays in found.items() if key.rpartition(".")[0] == name])


def _labels(subject: Subject, num: int) -> Tensor | None:
    return subject.labels(torch.arange(num))


def _log_snr(subject: Subject, steps: int) -> list[float]:
    """The log-SNRs of the steps that are looked at."""
    sampler = subject.request.sampler
    levels = levels_of(sampler.create("samplers"), subject.process, steps, name=sampler.name)
    return [log_snr_of(levels[step]) for step in observed_steps(steps)]
