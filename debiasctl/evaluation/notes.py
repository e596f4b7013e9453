"""Notes on figures for their readers, one sentence each."""

from collections.abc import Collection, Mapping, Sequence

import torch

from debiasctl.api import MetricNames
from debiasctl.evaluation.extraction import IDENTITY
from debiasctl.evaluation.figures import Real
from debiasctl.evaluation.observed import Observed
from debiasctl.evaluation.record import MetricFigure
from debiasctl.evaluation.uncertainty.intervals import images_needed

_COPIES = 0.01  # the share of copies among the images above which there is a note


def notes(
    observed: Observed, real: Real, measured: Mapping[str, MetricFigure], names: MetricNames, *, floor_num: int
) -> list[str]:
    """The notes on the figures in `measured` (see `measure`), whose floors are of `floor_num` held-out images."""
    return [
        *_of_numbers(measured, names, num=len(observed), floor_num=floor_num, real=real),
        *_of_classes(observed, measured, names),
        *_copies(observed),
        *_below_zero(measured, [names.frechet, names.spatial, "colour_fd"]),
    ]


def _of_numbers(measured: Collection[str], names: MetricNames, *, num: int, floor_num: int, real: Real) -> list[str]:
    notes = []
    dimension, features = len(real.reference.mean), real.reference.features
    num_reference = 0 if features is None else len(features)
    counts = {"images": num, "held-out images": floor_num, "training images": num_reference}
    few = [f"{count} {what}" for what, count in counts.items() if 0 < count <= dimension]
    if names.frechet in measured and few:
        notes.append(
            f"{names.frechet}: {' and '.join(few)} in {dimension} dimensions have a singular covariance, so the figure "
            f"is biased upward: at least D + 1 = {dimension + 1} are needed, and {images_needed(dimension)} images for "
            "an interval"
        )
    if not floor_num:
        what = "the reference has fewer than 2 held-out images" if num_reference else "the reference holds no images"
        notes.append(f"{what}, so there is no floor")
    elif floor_num < num:
        notes.append(
            f"only {floor_num} images are held out: compare the floor with the figure for as many images, "
            f"{floor_num} of the {num}, drawn at random"
        )
    return notes


def _of_classes(observed: Observed, measured: Collection[str], names: MetricNames) -> list[str]:
    if observed.division.classes is None or names.kernel not in measured:
        return []
    return [
        f"{names.kernel}: the value is unbiased for independently drawn images, but too low if their class counts were "
        "chosen, as here; 'corrected' and its interval allow for that, but not for balanced classes of the training "
        "images"
    ]


def _copies(observed: Observed) -> list[str]:
    """Warn of copies among the images, with which intervals would be too narrow."""
    identities = observed.rows.get(IDENTITY)
    copies = 0 if identities is None else len(observed) - len(torch.unique(identities, dim=0))
    if copies < max(1, _COPIES * len(observed)):
        return []
    return [
        f"{copies} of the {len(observed)} images are copies of others among them, pixel for pixel: "
        "intervals assume independent images, and are too narrow here"
    ]


def _below_zero(measured: Mapping[str, MetricFigure], distances: Sequence[str]) -> list[str]:
    """Note intervals below 0, where the assumption of independence does not hold, as a distance is not negative."""
    intervals = {name: measured[name].interval for name in distances if name in measured}
    found = [name for name, interval in intervals.items() if interval is not None and interval.high < 0]
    if not found:
        return []
    return [
        f"{', '.join(found)}: the interval lies below 0, so the images are not an independent sample at such a "
        "distance: they overlap the reference, or their classes were chosen"
    ]
