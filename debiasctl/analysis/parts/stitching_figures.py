"""The metrics of stitched samples, and what each range of steps carries of the difference of two networks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from debiasctl.evaluation.measure import interval_of
from debiasctl.evaluation.outcome import Outcome
from debiasctl.evaluation.uncertainty.intervals import (
    LEVEL,
    Interval,
    Jackknife,
    difference_interval,
)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A metric of one set of images; free of the bias in 1/N, and with an interval, if the images are enough."""

    value: float
    low: float | None
    high: float | None
    jackknife: Jackknife | None
    reason: str = ""

    @classmethod
    def of(cls, outcome: Outcome) -> "Measured":
        """From what a metric's computation gives."""
        corrected, kept, reason = interval_of(outcome)
        if corrected is None or kept is None:
            return cls(outcome.value, None, None, None, reason or "")
        found = Jackknife(list(kept.jackknife.pseudo_values), list(kept.jackknife.interactions))
        return cls(corrected, kept.low, kept.high, found)


@dataclass(frozen=True)
class Carried:
    """What a range of steps carries of a difference, and its part of the whole, with 95 % limits where they are had."""

    value: float
    interval: Interval | None
    share: float | None
    share_limits: tuple[float, float] | None


def combined(parts: Sequence[tuple[float, Measured]]) -> tuple[float, Interval | None]:
    """A weighted sum of metrics of images from the same noises, whose common noise cancels."""
    value = math.fsum(weight * one.value for weight, one in parts)
    kept = _combination(parts)
    if kept is None:
        return value, None
    nothing = Jackknife([0.0] * len(kept.pseudo_values), [0.0] * len(kept.interactions))
    return value, difference_interval(nothing, kept)


def _combination(parts: Sequence[tuple[float, Measured]]) -> Jackknife | None:
    kept = [(weight, one.jackknife) for weight, one in parts if one.jackknife is not None]
    if len(kept) < len(parts):
        return None
    pseudo = sum(weight * np.array(one.pseudo_values) for weight, one in kept)
    interactions = sum(weight * np.array(one.interactions) for weight, one in kept)
    return Jackknife(list(map(float, np.asarray(pseudo))), list(map(float, np.asarray(interactions))))


def carried(this_first: Mapping[int, Measured], other_first: Mapping[int, Measured]) -> tuple[Carried, list[Carried]]:
    """The whole difference, and that of each range between neighbouring cuts.

    `this_first[c]` is the metric where the first c steps are this network's and the rest the other's; `other_first`
    the other way round. A range carries the change that it makes to give its steps from this network to the other,
    averaged over both orders: with this network before and the other after it, and the other way round. The ranges
    add up to the whole.
    """
    cuts = sorted(this_first)
    whole = [(1.0, this_first[cuts[0]]), (-1.0, this_first[cuts[-1]])]  # all steps the other's, less none
    value, interval = combined(whole)
    total = Carried(value, interval, None, None)
    ranges = []
    for start, end in pairwise(cuts):
        parts = [
            (0.5, this_first[start]), (-0.5, this_first[end]), (0.5, other_first[end]), (-0.5, other_first[start]),
        ]  # fmt: skip
        amount, own = combined(parts)
        known = interval is not None and (interval.low > 0 or interval.high < 0)
        limits = _ratio_limits(_combination(parts), _combination(whole)) if known else None
        ranges.append(Carried(amount, own, amount / value if limits is not None else None, limits))
    return total, ranges


def _ratio_limits(part: Jackknife | None, whole: Jackknife | None) -> tuple[float, float] | None:
    """Fieller's limits of a ratio of two figures of the same images; None if it has no bounded ones."""
    from scipy.special import stdtrit

    if part is None or whole is None:
        return None
    rows = np.array([part.pseudo_values, whole.pseudo_values])
    groups = rows.shape[1]
    a, b = rows.mean(axis=1)
    covariance = np.cov(rows) / groups
    square = float(stdtrit(groups - 1, 0.5 + LEVEL / 2)) ** 2
    first, second, third = (
        b * b - square * covariance[1, 1],
        a * b - square * covariance[0, 1],
        a * a - square * covariance[0, 0],
    )
    if first <= 0:
        return None
    root = math.sqrt(max(second * second - first * third, 0.0))
    return float((second - root) / first), float((second + root) / first)
