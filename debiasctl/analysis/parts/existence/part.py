"""The part of an analysis that measures whether a bias is there: errors by noise level, split, and excess loss."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from pydantic import JsonValue

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.ideal import SomeImages, ideal_of
from debiasctl.analysis.parts.existence import statistics
from debiasctl.analysis.parts.existence.bands import Bands
from debiasctl.analysis.parts.existence.figures import lines_of
from debiasctl.analysis.parts.existence.findings import findings_of
from debiasctl.analysis.parts.existence.levels import Place, places_of
from debiasctl.analysis.parts.existence.measure import ENOUGH, Images, Measurement
from debiasctl.analysis.parts.existence.pictures import pictures_of
from debiasctl.analysis.parts.existence.quantities import quantities_of, training_lines
from debiasctl.analysis.parts.existence.reading import Facts, Level
from debiasctl.analysis.parts.part import IN_LATENTS, LATENTS, Choices, Found, Part
from debiasctl.analysis.record import AnalysisRecord
from debiasctl.analysis.subject import Subject
from debiasctl.api import spread_indices
from debiasctl.errors import CheckpointError, UsageError
from debiasctl.reporting.picture import Picture

_IMAGES, _VALUES, _FEWEST = 512, 2**21, 64  # images by default, where they have no more values than this in all
_NOISES = 2  # for each image and level
_CHECKPOINTS, _TRAINING_IMAGES = 8, 128
_LARGE_T = (-6.0, -4.0, -2.0)  # log-SNRs in the grid of one-step estimates, beside the noisiest
_CHANNELS = {1: ["grey"], 3: ["r", "g", "b"]}


class Existence(Part):
    """Errors of a network on held-out images by noise level: irreducible, systematic and the rest; excess loss."""

    name = "existence"
    title = "Is there a bias, and where"
    of_latents = True

    def settings(self, subject: Subject, others: Sequence[Subject], choices: Choices) -> dict[str, JsonValue]:
        """The images, the noises, the levels and the checkpoints."""
        available, wanted = len(subject.data.heldout), choices.num or _default_images(subject)
        num = min(wanted, available)
        if num < statistics.MIN_IMAGES:
            few = f"the data set has {available}" if num == available else f"`num={wanted}` is too few"
            raise UsageError(
                f"run '{subject.run.name}': errors are measured on at least {statistics.MIN_IMAGES} held-out images, "
                f"and {few}. " + ("Use a data set with more of them" if num == available else "Choose a larger `num`")
            )
        steps = subject.run.checkpoint_steps()
        kept = [steps[number] for number in spread_indices(len(steps), _CHECKPOINTS - 1).tolist()]
        chosen: list[JsonValue] = [*sorted({*kept, *steps[-1:]})]
        space: dict[str, JsonValue] = {} if subject.space is None else {LATENTS: subject.space.section.sha256}
        return space | {
            "num": num, "noises": _NOISES, "seed": choices.seed, "levels": len(places_of(subject.process)),
            "checkpoints": chosen, "training_images": min(num, _TRAINING_IMAGES), "enough_neighbours": ENOUGH,
            "one_step_log_snr": [
                place.log_snr if place.level.alpha > 0 else None for place in _large_t(places_of(subject.process))
            ],
        }  # fmt: skip

    def measure(self, subject: Subject, others: Sequence[Subject], settings: dict[str, JsonValue], book: Book) -> Found:
        """Measure level by level, and then checkpoint by checkpoint."""
        num, noises, seed, few = (int(str(settings[name])) for name in ("num", "noises", "seed", "training_images"))
        images, ideal = Images.of(subject, num), ideal_of(subject, seed=seed)
        places = places_of(subject.process)
        stored = settings["checkpoints"]
        steps = [int(str(step)) for step in stored] if isinstance(stored, list) else []
        main = Measurement(subject, ideal, images, noises=noises, seed=seed)
        share = num * noises / (num * noises + few * len(steps))
        units = {place.name: partial(main.level, place) for place in places}
        measured = book.all(units, text="errors by noise level", begin=0, end=share)
        facts = _facts(subject, images, main.bands, exact=ideal.exact)
        levels = [Level(place, measured[place.name], facts) for place in places]
        inside = [level for level in levels if level.usable and level.place.level.alpha > 0]
        small = Measurement(subject, ideal, images.some(few), noises=1, seed=seed)
        trained = book.all(
            _checkpoints(small, [level.place for level in inside], steps),
            text="excess loss over training", begin=share, end=1,
        )  # fmt: skip
        curves = {step: trained[f"checkpoint-{step}"] for step in steps}
        read = {step: one["excess"] for step, one in curves.items() if "excess" in one}
        series = lines_of(levels, facts)
        if inside:
            series += training_lines(inside, read, batch_size=subject.spec.training.batch_size)
        notes = _notes(levels, images, noises, ideal.name, [step for step in steps if step not in read])
        if subject.space is not None:
            notes.append(IN_LATENTS)
        return Found(quantities_of(levels, facts), series, _shown(subject, levels, images), notes)

    def findings(self, record: AnalysisRecord) -> list[str]:
        """What the figures say."""
        return findings_of(record)

    def pictures(self, records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
        """The split of the error, the systematic error, the excess loss, and one-step estimates."""
        return pictures_of(records, images)


def _facts(subject: Subject, images: Images, bands: Bands, *, exact: bool) -> Facts:
    labels = None if images.labels is None else images.labels.cpu().numpy().astype(np.float64)
    count = subject.shape[0]
    named = _CHANNELS if subject.space is None else {}
    channels = named.get(count, [str(number) for number in range(count)])
    return Facts(
        bands.names, channels, labels, subject.data.info.classes, subject.is_conditional, exact,
        latents=subject.space is not None,
    )  # fmt: skip


def _default_images(subject: Subject) -> int:
    """512 images, and fewer where they are large."""
    return max(_FEWEST, min(_IMAGES, _VALUES // int(np.prod(subject.shape))))


def _checkpoints(
    measurement: Measurement, places: Sequence[Place], steps: Sequence[int]
) -> dict[str, Callable[[], Arrays]]:
    """A unit for each checkpoint: the excess at all levels, [L, N]; the ideal's estimates are computed once."""
    known = {}

    def unit(step: int) -> Arrays:
        subject = measurement.subject
        try:
            other = subject.at(step)
        except (CheckpointError, UsageError):
            return {"unreadable": np.ones(1)}
        found = []
        for place in places:
            if place.key not in known:
                known[place.key] = measurement.best(place)
            found.append(measurement.excess_of(other.denoiser, place, known[place.key]).numpy())
        return {"excess": np.array(found)}

    return {f"checkpoint-{step}": partial(unit, step) for step in steps}


def _large_t(places: Sequence[Place]) -> list[Place]:
    """The levels of one-step estimates: the noisiest, and those nearest to a few log-SNRs."""
    nearest = [min(places, key=lambda place: abs(place.log_snr - wanted)) for wanted in _LARGE_T]
    return [place for place in places if place is places[0] or place in nearest]


def _shown(subject: Subject, levels: Sequence[Level], images: Images) -> Arrays:
    """The arrays of pictures: a few images, and one-step estimates of them from large t, level by level; decoded.

    The ideal's estimates are there for the levels, the noisiest first, at which it says something about new images.
    """
    found: Arrays = {"x0": images.x0.cpu().double()[images.shown()].numpy()}
    places = _large_t([level.place for level in levels])
    chosen = [level for level in levels if level.place in places]
    for name in ("x_t", "estimate", "ideal"):
        parts = [level.arrays[f"shown_{name}"] for level in chosen if level.usable or name != "ideal"]
        if parts:
            found[f"one_step_{name}"] = np.concatenate(parts)
    if subject.space is None:
        return found
    latents = {name: torch.from_numpy(array).float() for name, array in found.items()}
    return {name: subject.images_of(one).cpu().numpy() for name, one in latents.items()}


def _why(ideal: str) -> tuple[str, str]:
    """Why an ideal is not known at any level, or beyond one."""
    if ideal == SomeImages.name:
        return "has too few neighbours of the noisy images", "the part has too few neighbours of the noisy images"
    few = f"fewer than {ENOUGH:.0f} images"
    return f"rests on {few}", f"it would be that of {few}, which is to remember them"


def _notes(levels: Sequence[Level], images: Images, noises: int, ideal: str, unreadable: Sequence[int]) -> list[str]:
    """How it was measured, and what was not known."""
    known = [level.place.log_snr for level in levels if level.usable]
    found = [
        f"errors were measured on {len(images.x0)} held-out images with {noises} noises each at {len(levels)} levels "
        f"({len(images.x0) * noises * len(levels):,} forwards of the network); "
        f"intervals cover the choice of images and noises, not the training seed"
    ]
    if levels[0].facts.exact:
        found.append("the best possible estimate is known in closed form at every level")
    elif not known:
        found.append(
            f"the best possible estimate is not known at any level: the ideal of {ideal} {_why(ideal)[0]}. "
            "Signed errors are those against the images themselves, and no excess loss is given"
        )
    else:
        rest = "at every level"
        if len(known) < len(levels):
            rest = (
                f"up to log SNR {known[-1]:.2g}; beyond it, {_why(ideal)[1]}, so that signed errors there are those "
                "against the images themselves and no excess loss is given"
            ).replace("SNR -", "SNR −")
        found.append(
            f"the best possible estimate is that of {ideal}, which is close to the best for new images {rest}. It is "
            "itself off a little, as training images are a sample too; intervals allow for that"
        )
    if unreadable:
        found.append(
            f"weights of the checkpoints {', '.join(map(str, unreadable))} could not be read, and are left out of the "
            "curves over training"
        )
    return found
