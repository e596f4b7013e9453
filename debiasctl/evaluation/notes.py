"""What a reader must know of figures: one sentence each."""

from collections.abc import Collection, Mapping, Sequence

from debiasctl.evaluation.metrics.catalogue import distance_names, extra_names
from debiasctl.evaluation.metrics.figures import Real
from debiasctl.evaluation.observed import Observed
from debiasctl.evaluation.record import MetricFigure
from debiasctl.evaluation.uncertainty.intervals import images_needed

_COPIES = 0.01  # the share of images that may be alike without a note


def notes(
    observed: Observed, real: Real, measured: Mapping[str, MetricFigure], *, feature_name: str, floor_num: int
) -> list[str]:
    """On the figures in `measured` (as `measure` returns them), beside floors of `floor_num` held-out images."""
    return [
        *_of_numbers(measured, feature_name, num=len(observed), floor_num=floor_num, real=real),
        *_of_classes(observed, measured, feature_name),
        *_copies(observed, feature_name),
        *_below_zero(measured, [distance_names(feature_name)[0], extra_names(feature_name)[1], "colour_fd"]),
    ]


def _of_numbers(names: Collection[str], feature_name: str, *, num: int, floor_num: int, real: Real) -> list[str]:
    notes = []
    dimension, features = len(real.reference.mean), real.reference.features
    frechet = distance_names(feature_name)[0]
    num_reference = 0 if features is None else len(features)
    counts = {"images": num, "held-out images": floor_num, "training images": num_reference}
    few = [f"{count} {what}" for what, count in counts.items() if 0 < count <= dimension]
    if frechet in names and few:
        notes.append(
            f"{frechet}: {' and '.join(few)} in {dimension} dimensions have a singular covariance, so the figure is "
            f"biased upward: at least D + 1 = {dimension + 1} are needed, and {images_needed(dimension)} images for an "
            "interval"
        )
    if not floor_num:
        what = "the reference has fewer than 2 held-out images" if num_reference else "the reference holds no images"
        notes.append(f"{what}, so there is no floor")
    elif floor_num < num:
        notes.append(
            f"only {floor_num} images are held out: compare the floor with the figure at its number, that of "
            f"{floor_num} of the {num}, drawn at random"
        )
    return notes


def _of_classes(observed: Observed, names: Collection[str], feature_name: str) -> list[str]:
    kernel = distance_names(feature_name)[1]
    if observed.division.classes is None or kernel not in names:
        return []
    return [
        f"{kernel}: the value is unbiased for images drawn independently, and too low where their class counts were "
        "chosen, as here; corrected and its interval allow for that, but not for even classes of the training images"
    ]


def _copies(observed: Observed, feature_name: str) -> list[str]:
    """Intervals of images that repeat one another would pass for sure."""
    copies = len(observed) - len({hash(row.tobytes()) for row in observed.features.numpy()})
    if copies < max(1, _COPIES * len(observed)):
        return []
    return [
        f"{copies} of the {len(observed)} images are copies of others among them, in '{feature_name}' features: "
        "intervals take images as independent, and are too narrow here"
    ]


def _below_zero(measured: Mapping[str, MetricFigure], names: Sequence[str]) -> list[str]:
    """A distance is not negative, so such an interval says that its assumption does not hold."""
    intervals = {name: measured[name].interval for name in names if name in measured}
    found = [name for name, interval in intervals.items() if interval is not None and interval.high < 0]
    if not found:
        return []
    return [
        f"{', '.join(found)}: the interval lies below 0, so the images are no independent sample of anything at that "
        "distance: they overlap the reference, or their classes were chosen"
    ]
