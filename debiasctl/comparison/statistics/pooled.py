"""Differences of two arms with the variance between seeds pooled over all arms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from debiasctl.comparison.statistics.estimates import Estimate, is_rounding, mean, squares


@dataclass(frozen=True, slots=True)
class Spread:
    """The variance between the seeds of an arm, taken to be the same in all arms, on `freedom` degrees of freedom."""

    variance: float
    freedom: float


def pooled_spread(arms: Sequence[Sequence[float]]) -> Spread | None:
    """The variance within arms, s² = Σ (n - 1) s_a² / Σ (n - 1), or None if no arm has two seeds or none varies.

    Figures that do not vary at all over seeds are saturated or copied: their spread is unknown rather than 0.
    """
    freedom = sum(len(values) - 1 for values in arms if values)
    if freedom < 1:
        return None
    variance = math.fsum(squares(values) for values in arms if values) / freedom
    if is_rounding(variance, [value for values in arms for value in values]):
        return None
    return Spread(variance, freedom)


def pooled(arm: Sequence[float], reference: Sequence[float], spread: Spread, *, sign: int = 1) -> Estimate:
    """The arm's mean minus the reference's, s √(1/n_arm + 1/n_reference) uncertain; their sum with a `sign` of -1."""
    error = math.sqrt(spread.variance * (1 / len(arm) + 1 / len(reference)))
    return Estimate(mean(arm) - sign * mean(reference), error, spread.freedom)
