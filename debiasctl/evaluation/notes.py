"""Notes on figures for their readers, one sentence each."""

from collections.abc import Collection, Mapping, Sequence

from debiasctl.api import MetricNames
from debiasctl.evaluation.figures import Real
from debiasctl.evaluation.observed import Observed
from debiasctl.evaluation.plausibility import implausible, of_the_reference
from debiasctl.evaluation.record import Identical, MetricFigure
from debiasctl.evaluation.uncertainty.intervals import images_needed

_COPIES = 0.01  # the share of copies among the images above which there is a note


def notes(
    observed: Observed,
    real: Real,
    measured: Mapping[str, MetricFigure],
    names: MetricNames,
    *,
    floor_num: int,
    identical: Identical | None,
) -> list[str]:
    """The notes on the figures in `measured` (see `measure`), whose floors are of `floor_num` held-out images.

    `identical` counts the images that are the same as others.
    """
    return [
        *map(str, implausible(measured)),
        *([] if identical is None else _identical(identical, len(observed))),
        *_of_numbers(measured, names, num=len(observed), floor_num=floor_num, real=real),
        *_of_classes(measured, names),
        *_expected(measured),
        *_below_zero(measured, [names.frechet, names.kernel, names.spatial, "colour_fd"]),
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


def _of_classes(measured: Mapping[str, MetricFigure], names: MetricNames) -> list[str]:
    if names.kernel not in measured or not measured[names.kernel].by_class:
        return []
    return [
        f"{names.kernel}: pairs of images count by class, because even class counts would make the distance too low; "
        "published KIDs do not, which tells on few images alone"
    ]


def _expected(measured: Mapping[str, MetricFigure]) -> list[str]:
    """What fresh images are expected to have, where it is neither 0 nor the floor's own."""
    return [
        f"{name}: fresh images are expected to have {figure.expected:.3g}, with as many held-out images as here"
        for name, figure in measured.items()
        if figure.expected is not None
    ]


def _identical(identical: Identical, num: int) -> list[str]:
    """Warn of images that are the same, pixel for pixel, as real ones or as others among them."""
    notes = [str(one) for one in of_the_reference(identical, num)]
    if identical.heldout:
        notes.append(
            f"{identical.heldout} of the {num} images are identical, pixel for pixel, to held-out images, which the "
            "floor and the distances to the nearest training images are measured on"
        )
    if identical.copies >= max(1, _COPIES * num):
        notes.append(
            f"{identical.copies} of the {num} images are copies, pixel for pixel, of others among them: intervals "
            "assume independent images, and are too narrow here"
        )
    return notes


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
