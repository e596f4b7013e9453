"""Confidence intervals by the delete-group jackknife, and the reasons for which they are refused."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

GROUPS = 20
LEVEL = 0.95
METHOD = f"delete-group jackknife, {GROUPS} groups"
SHARE_METHOD = "Wilson score"
MIN_IMAGES = 5 * GROUPS
MIN_PER_DIMENSION = 8  # images per dimension; below it the simulated coverage falls off (docs/concepts/intervals.md)


@dataclass(frozen=True)
class Interval:
    """A confidence interval from `low` to `high` at confidence `level`; `estimate` is free of the bias in 1/N."""

    estimate: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Jackknife:
    """The jackknife of one figure of one set of images, with G values each in the order of the groups.

    The mean of `pseudo_values` is free of the bias in 1/N; `interactions` measure how far pairs of groups (each with
    the next) are from having independent effects.
    """

    pseudo_values: list[float]
    interactions: list[float]


def jackknife(statistic: Callable[[tuple[int, ...]], float], *, groups: int = GROUPS) -> Jackknife:
    """Compute the jackknife from `statistic(left_out)`, the figure of all images without zero, one or two groups.

        pseudo_values[g] = G F - (G - 1) F_g                                                          (Tukey, 1958)
        interactions[g] = G² F - (G - 1)² (F_g + F_h) + (G - 2)² F_gh - pseudo_values[g] - pseudo_values[h],  h = g + 1

    For a mean over images all interactions are 0.
    """
    full = statistic(())
    rest = [statistic((group,)) for group in range(groups)]
    pseudo = [groups * full - (groups - 1) * value for value in rest]
    interactions = []
    for g, h in ((g, (g + 1) % groups) for g in range(groups)):
        second = groups**2 * full - (groups - 1) ** 2 * (rest[g] + rest[h]) + (groups - 2) ** 2 * statistic((g, h))
        interactions.append(second - pseudo[g] - pseudo[h])
    return Jackknife(pseudo, interactions)


def jackknife_interval(found: Jackknife, *, level: float = LEVEL) -> Interval:
    """Student's interval, with G - 1 degrees of freedom, about the mean of the pseudo-values.

    Half of the variance's excess (see `_students`) is subtracted: if all of it were, intervals near 0, where estimates
    are skewed, would cover the true value too rarely (simulated by benchmarks/interval_coverage.py).
    """
    return _students(found, level=level, taken_off=0.5)


def _students(found: Jackknife, *, level: float, taken_off: float) -> Interval:
    """Student's interval from the jackknife's variance minus a share `taken_off` of its excess.

    The variance counts terms quadratic in the images twice (Efron & Stein, 1981); near a distance of 0 they are almost
    all of it, and intervals would be up to 1.4 times too wide. The interactions b estimate the excess as Var(b)/(2 G²);
    it is at most half of the variance.
    """
    from scipy.special import stdtrit

    groups = len(found.pseudo_values)
    estimate = statistics.fmean(found.pseudo_values)
    variance = statistics.variance(found.pseudo_values) / groups
    excess = min(statistics.variance(found.interactions) / (2 * groups**2), variance / 2)
    half = float(stdtrit(groups - 1, 0.5 + level / 2)) * math.sqrt(variance - taken_off * excess)
    return Interval(estimate, estimate - half, estimate + half, level)


def share_interval(successes: int, num: int, *, level: float = LEVEL) -> Interval:
    """Wilson's score interval (1927) for the share that `successes` of `num` independent images estimate.

    Unlike Student's interval it is informative even if none or all of the images succeed.
    """
    from scipy.stats import binomtest

    found = binomtest(successes, num).proportion_ci(level, method="wilson")
    return Interval(successes / num, float(found.low), float(found.high), level)


def difference_interval(first: Jackknife, second: Jackknife, *, level: float = LEVEL) -> Interval:
    """The interval of `second` minus `first`, for two equally large sets measured against the same reference.

    The i-th images of both sets are in the same group, so that shared noise cancels; the interval is also valid for
    sets that share none. Skewness cancels too, so that all of the variance's excess is subtracted.

    Raises:
        ValueError: if the numbers of groups differ.
    """
    pairs = ((first.pseudo_values, second.pseudo_values), (first.interactions, second.interactions))
    between = Jackknife(*([b - a for a, b in zip(*pair, strict=True)] for pair in pairs))
    return _students(between, level=level, taken_off=1)


def refusal(num: int, dimension: int | None = None) -> str | None:
    """The reason why `num` images are too few for an interval, or None; `dimension` is given for covariance fits."""
    needed = images_needed(dimension)
    if num >= needed:
        return None
    why = "" if needed == MIN_IMAGES else f" ({MIN_PER_DIMENSION} per dimension)"
    return f"an interval needs at least {needed} images{why}, not {num}"


def images_needed(dimension: int | None = None) -> int:
    """The number of images that an interval needs; `dimension` is as for `refusal`."""
    return max(MIN_IMAGES, MIN_PER_DIMENSION * (dimension or 0))
