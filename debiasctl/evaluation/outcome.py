"""What computing a metric gives, before it becomes a figure with an interval."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from debiasctl.evaluation.record import Curve
from debiasctl.evaluation.uncertainty.intervals import Jackknife
from debiasctl.evaluation.uncertainty.jackknife import Division, Extrapolation, mean_jackknife


@dataclass(frozen=True)
class Outcome:
    """A metric's value for `num` images, with its uncertainty.

    `jackknife` belongs to a statistic in `dimension` dimensions; if it is None, `reason` says why. `squared` says that
    the figure is a squared distance, and `limits(corrected)` is another method for the limits of one. For a share,
    `ones` [num] says which images count, and `reach` are the shares at the confidence limits of its threshold. `effect`
    is a standard deviation that the held-out images add to another figure, and `expected` the figure that fresh images
    are expected to have. A Fréchet distance is extrapolated to infinite N, or has a reason why it is not.
    """

    value: float
    num: int
    jackknife: Callable[[], Jackknife] | None = None
    dimension: int | None = None
    reason: str = ""
    squared: bool = False
    limits: Callable[[float], tuple[float, float] | None] | None = None
    ones: Tensor | None = None
    reach: tuple[float, float] | None = None
    effect: float = 0.0
    expected: float | None = None
    by_class: bool = False
    extrapolate: Callable[[], Extrapolation | str] | None = None
    curve: Curve | None = None


def of_means(
    rows: Tensor,
    division: Division,
    statistic: Callable[[Tensor], float],
    *,
    dimension: int | None = None,
    effect: float = 0.0,
) -> Outcome:
    """The outcome for a statistic of the mean over images of float64 `rows` [N, ...]."""
    jackknife = partial(mean_jackknife, rows, statistic, division=division)
    return Outcome(statistic(rows.mean(dim=0)), len(rows), jackknife, dimension=dimension, effect=effect)


def of_share(ones: Tensor, *, reach: tuple[float, float] | None = None, expected: float | None = None) -> Outcome:
    """The outcome for a share of images, from float64 `ones` [N] of 0 and 1."""
    jackknife = partial(mean_jackknife, ones)
    return Outcome(float(ones.mean()), len(ones), jackknife, ones=ones.bool(), reach=reach, expected=expected)
