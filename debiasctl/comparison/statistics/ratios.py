"""Ratios of two arms' means: on the log scale where all figures are above 0, and else by Fieller's theorem."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from debiasctl.comparison.statistics.estimates import LEVEL, Estimate, quantile

ALL = "unbounded: the reference's figure cannot be told from 0"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its interval; a limit is None where there is none, and the note says why."""

    value: float | None
    low: float | None
    high: float | None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """Two means with the variances of both and their covariance, on `freedom` degrees of freedom."""

    arm: float
    reference: float
    arm_variance: float
    reference_variance: float
    covariance: float
    freedom: float


def log_ratio(found: Estimate, *, level: float = LEVEL) -> Ratio:
    """The ratio of geometric means, given the difference of the means of logarithms."""
    low, high = found.interval(level)
    return Ratio(_exp(found.value), _exp(low), _exp(high))


def logarithms(values: Sequence[float]) -> list[float] | None:
    """The logarithms of the values, or None if one is not above 0."""
    return [math.log(value) for value in values] if min(values) > 0 else None


def fieller(means: Means, *, level: float = LEVEL, absolute: bool = False) -> Ratio:
    """The ratios ρ that arm - ρ · reference = 0 is not rejected for (Fieller, 1954), as a range of |ρ| if `absolute`.

    With A = reference² - t² v_reference the set is an interval if A > 0. Otherwise the reference cannot be told from 0,
    and the set is unbounded: all but what lies between two limits, or everything.
    """
    if means.reference == 0:
        return Ratio(None, None, None, "none: the reference's figure is 0")
    t2 = quantile(means.freedom, level) ** 2
    a = means.reference**2 - t2 * means.reference_variance
    b = means.arm * means.reference - t2 * means.covariance
    c = means.arm**2 - t2 * means.arm_variance
    value = means.arm / means.reference
    root = math.sqrt(max(b * b - a * c, 0.0))
    note = None if means.reference > 0 or absolute else "of figures to a reference below 0"
    if a > 0:
        low, high = (b - root) / a, (b + root) / a
        if absolute:
            low, high = (0.0 if low < 0 < high else min(abs(low), abs(high))), max(abs(low), abs(high))
        return Ratio(abs(value) if absolute else value, low, high, note)
    if a < 0 and b * b > a * c:
        below, above = sorted(((b - root) / a, (b + root) / a))
        if absolute:
            least = 0.0 if below > 0 or above < 0 else min(-below, above)
            return Ratio(abs(value), least, None, ALL)
        return Ratio(value, None, None, f"{ALL} (below {below:.3g} or above {above:.3g})")
    return Ratio(abs(value) if absolute else value, 0.0 if absolute else None, None, ALL)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
