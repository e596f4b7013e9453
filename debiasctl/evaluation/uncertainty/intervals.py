"""Confidence intervals by the delete-group jackknife, and the reasons for which they are refused."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

GROUPS = 20
LEVEL = 0.95
METHOD = f"delete-group jackknife, {GROUPS} groups"
MIN_IMAGES = 5 * GROUPS
_MOST_EXCESS = 0.7  # of a difference's variance, chosen by the coverage on real images and on simulated features
_FEW = 10  # directions with noise at which a squared distance's lower limit is half of either kind
MIN_PER_DIMENSION = 8  # images per dimension; below it the simulated coverage falls off (docs/concepts/intervals.md)


@dataclass(frozen=True)
class Interval:
    """A confidence interval from `low` to `high` at confidence `level`; `estimate` is free of the bias in 1/N.

    For a difference, `p` is the level at which such an interval would just reach 0 (its two-sided p value).
    """

    estimate: float
    low: float
    high: float
    level: float
    p: float | None = None


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


def jackknife_interval(found: Jackknife, *, level: float = LEVEL, effect: float = 0.0) -> Interval:
    """Student's interval, with G - 1 degrees of freedom, about the mean of the pseudo-values.

    Half of the variance's excess (see `_spread`) is subtracted: if all of it were, intervals near 0, where estimates
    are skewed, would cover the true value too rarely. `effect` is a standard deviation that the images measured against
    add.
    """
    estimate, variance, excess = _spread(found)
    half = _quantile(found, level) * math.sqrt(variance - excess / 2 + effect**2)
    return Interval(estimate, estimate - half, estimate + half, level)


def squared_interval(found: Jackknife, plain: float, *, level: float = LEVEL) -> Interval:
    """The interval of a squared distance, which is `plain` with its bias; its variance grows with it.

    The limits are the distances from which the estimate lies no more than t standard deviations away, where these are
    those at the limit (see `_squared_limits`), and the upper one is no nearer than that of `jackknife_interval`. Where
    few directions hold the noise, an estimate that is large by chance has a slope far too large, and the lower limit
    stays with `jackknife_interval`; it is an average, by the number of directions that the bias and the excess tell.
    """
    estimate, variance, excess = _spread(found)
    usual = jackknife_interval(found, level=level)
    low, high = _squared_limits(estimate, variance, excess, quantile=_quantile(found, level))
    noise = 2 * max(plain - estimate, 0.0) ** 2  # over the excess, it is the number of directions
    part = noise / (noise + _FEW * excess) if noise > 0 else 0.0
    return Interval(estimate, usual.low + part * max(low - usual.low, 0.0), max(high, usual.high), level)


def _spread(found: Jackknife, *, at_most: float = 0.5) -> tuple[float, float, float]:
    """The mean of the pseudo-values, its variance, and that variance's excess.

    The variance counts terms quadratic in the images twice (Efron & Stein, 1981); near a distance of 0 they are almost
    all of it, and intervals would be up to 1.4 times too wide. The interactions b estimate the excess as Var(b)/(2 G²).
    In truth it is at most half of the variance, and no more than the part `at_most` is taken for it.
    """
    groups = len(found.pseudo_values)
    variance = statistics.variance(found.pseudo_values) / groups
    excess = min(statistics.variance(found.interactions) / (2 * groups**2), at_most * variance)
    return statistics.fmean(found.pseudo_values), variance, excess


def _quantile(found: Jackknife, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(len(found.pseudo_values) - 1, 0.5 + level / 2))


def _squared_limits(estimate: float, variance: float, excess: float, *, quantile: float) -> tuple[float, float]:
    """The limits of a squared distance, whose variance grows with it as excess + slope · distance.

    They are the distances d with (d - estimate)² = t² (excess + slope · d).
    """
    near = max(estimate, 0.0)
    scale = near + math.sqrt(2 * excess)
    slope = (variance - excess) / scale if scale > 0 else 0.0
    turn = quantile**2 * slope
    reach = quantile * math.sqrt(excess + slope * near + turn * slope / 4)
    return estimate + turn / 2 - reach, estimate + turn / 2 + reach


def difference_interval(
    first: Jackknife, second: Jackknife, *, level: float = LEVEL, effect: float = 0.0, sign: int = 1
) -> Interval:
    """The interval of `second` minus `first`, for two equally large sets measured against the same reference.

    The i-th images of both sets are in the same group, so that shared noise cancels; the interval is also valid for
    sets that share none. Skewness cancels too, so that all of the variance's excess is subtracted, also where by chance
    it was found to be more than half: between two figures near 0 it is half, and if only what was found below that
    counted, the interval would be too wide. `effect` is as for `jackknife_interval`. With a `sign` of -1 the interval
    is that of the sum.

    Raises:
        ValueError: if the numbers of groups differ.
    """
    pairs = ((first.pseudo_values, second.pseudo_values), (first.interactions, second.interactions))
    between = Jackknife(*([b - sign * a for a, b in zip(*pair, strict=True)] for pair in pairs))
    estimate, variance, excess = _spread(between, at_most=_MOST_EXCESS)
    return students_interval(
        estimate, math.sqrt(variance - excess + effect**2), freedom=len(between.pseudo_values) - 1, level=level
    )


def with_skewness(found: Interval, first: tuple[Interval, Jackknife], second: tuple[Interval, Jackknife]) -> Interval:
    """The interval of a difference of two squared distances, wider on the side on which its variance grows.

    The variance of each distance grows with it by a slope that its own upper limit tells. That of the difference then
    grows by slope_b r_b² - slope_a r_a², where r are the correlations with the difference (docs/concepts/intervals.md).
    The limits are the differences from which the one found lies t of the standard deviations there away.
    """
    quantile = _quantile(first[1], found.level)
    one, other = (_spread(kept)[1] for _, kept in (first, second))
    pairs = zip(first[1].pseudo_values, second[1].pseudo_values, strict=True)
    between = statistics.variance(b - a for a, b in pairs) / len(first[1].pseudo_values)
    if min(one, other, between) <= 0:
        return found
    shared = (one + other - between) / 2  # the covariance
    slope = _slope(*second, quantile=quantile) * (other - shared) ** 2 / (other * between)
    slope -= _slope(*first, quantile=quantile) * (one - shared) ** 2 / (one * between)
    half, turn = (found.high - found.low) / 2, quantile**2 * slope / 2
    up, down = (max(math.hypot(half, turn) + sign * turn, half) for sign in (1, -1))
    error = (down if found.estimate > 0 else up) / quantile  # on the side on which 0 lies
    widened = students_interval(found.estimate, error, freedom=len(first[1].pseudo_values) - 1, level=found.level)
    return Interval(found.estimate, found.estimate - down, found.estimate + up, found.level, widened.p)


def _slope(own: Interval, kept: Jackknife, *, quantile: float) -> float:
    """By how much the variance of a squared distance grows with it, from the reach u of its upper limit.

    The estimate lies t standard deviations below that limit: u² = t² (variance + slope · u).
    """
    _, variance, excess = _spread(kept)
    reach = own.high - own.estimate
    return max((reach / quantile) ** 2 - (variance - excess), 0.0) / reach if reach > 0 else 0.0


def students_interval(estimate: float, error: float, *, freedom: int, level: float = LEVEL) -> Interval:
    """Student's interval of a difference with the standard error `error`, and its p value."""
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(freedom, 0.5 + level / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(estimate) / error)) if error > 0 else float(estimate == 0)
    return Interval(estimate, estimate - half, estimate + half, level, p)


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
