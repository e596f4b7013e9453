"""Differences of two arms with the variance between seeds pooled over arms."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from debiasctl.comparison.statistics.estimates import ROUNDING, Estimate

ALIKE = 2.0  # times: an arm whose mean is further from the pair's has another spread, as spreads grow with figures


@dataclass(frozen=True, slots=True)
class Summary:
    """What pooling needs of one arm's figures."""

    num: int
    mean: float
    squares: float  # of deviations from the mean, summed
    largest: float  # in size


@dataclass(frozen=True, slots=True)
class Spread:
    """The variance between the seeds of an arm, taken to be the same in all arms, on `freedom` degrees of freedom."""

    variance: float
    freedom: float


def summary(values: Sequence[float]) -> Summary:
    """The summary of one or more figures."""
    center = math.fsum(values) / len(values)
    squares = math.fsum((value - center) * (value - center) for value in values)
    return Summary(len(values), center, squares, max(max(values), -min(values)))


def pooled_spread(arms: Iterable[Summary]) -> Spread | None:
    """The variance within arms, s² = Σ (n - 1) s_a² / Σ (n - 1), or None if no arm has two seeds or none varies.

    Figures that do not vary at all over seeds are saturated or copied: their spread is unknown rather than 0.
    """
    arms = list(arms)
    freedom = sum(arm.num - 1 for arm in arms)
    if freedom < 1:
        return None
    variance = math.fsum(arm.squares for arm in arms) / freedom
    largest = max(arm.largest for arm in arms)
    return Spread(variance, freedom) if variance > (ROUNDING * largest) ** 2 else None


def alike(arm: Summary, first: Summary, second: Summary) -> bool:
    """Whether the variance of a pair is pooled over this arm too: its mean is within a factor of two of the pair's.

    A distance that is several times as large varies several times as much over seeds, and would hide what the better
    arms differ by. Means say nothing about variances where arms do have the same, so that the choice biases nothing.
    Where a mean of the pair is not above 0, no factor can be given, and all arms count.
    """
    low, high = min(first.mean, second.mean), max(first.mean, second.mean)
    return low <= 0 or low / ALIKE <= arm.mean <= high * ALIKE


def pooled(arm: Summary, reference: Summary, spread: Spread, *, sign: int = 1) -> Estimate:
    """The arm's mean minus the reference's, s √(1/n_arm + 1/n_reference) uncertain; their sum with a `sign` of -1."""
    error = math.sqrt(spread.variance * (1 / arm.num + 1 / reference.num))
    return Estimate(arm.mean - sign * reference.mean, error, spread.freedom)
