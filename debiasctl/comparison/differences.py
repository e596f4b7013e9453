"""Differences of two figures with their intervals, and which of several figures is better beyond chance."""

from collections.abc import Sequence

from debiasctl.evaluation.metrics.catalogue import HIGHER, ZERO
from debiasctl.evaluation.record import BitsFigure, KeptInterval, MetricFigure
from debiasctl.evaluation.uncertainty.intervals import Interval, difference_interval, with_skewness
from debiasctl.evaluation.uncertainty.shares import (
    SHARE_METHOD,
    paired_difference,
    unpacked,
    unpaired_difference,
)

Measured = MetricFigure | BitsFigure
_OF_A_THRESHOLD = (
    "shares below a threshold that is uncertain itself differ by few images, whose differences no interval holds in "
    "95 % of cases"
)


def difference(first: Measured, second: Measured, *, sign: int = 1) -> Interval | None:
    """The interval of `second` minus `first`, or None if either has no interval; with a `sign` of -1, of their sum."""
    if isinstance(first, BitsFigure) or isinstance(second, BitsFigure):
        return None
    if first.interval is None or second.interval is None:
        return None
    one, other = first.interval, second.interval
    if sign == 1 and SHARE_METHOD in (one.method, other.method):
        if one.reach or other.reach:
            return None
        if one.ones is None or other.ones is None or first.num != second.num:
            return unpaired_difference(_plain(first, one), _plain(second, other))
        return paired_difference(unpacked(one.ones, first.num), unpacked(other.ones, second.num))
    effect = abs(other.effect - sign * one.effect)  # the held-out images are the same for both
    if len(one.jackknife.pseudo_values) != len(other.jackknife.pseudo_values):  # another version's division
        return None
    jackknives = (one.jackknife.jackknife, other.jackknife.jackknife)
    found = difference_interval(*jackknives, effect=effect, sign=sign)
    if sign < 0 or effect or first.corrected is None or second.corrected is None:
        return found
    singles = (
        Interval(first.corrected, one.low, one.high, one.level),
        Interval(second.corrected, other.low, other.high, other.level),
    )
    return with_skewness(found, (singles[0], jackknives[0]), (singles[1], jackknives[1]))


def missing_reason(first: Measured, second: Measured) -> str | None:
    """Why a difference has no interval, or None if it has one."""
    for figure in (first, second):
        if isinstance(figure, BitsFigure):
            return "a likelihood has a standard error alone, which debiasctl likelihood prints"
        if figure.interval is None:
            return figure.interval_reason
        if figure.interval.reach:
            return _OF_A_THRESHOLD
    if difference(first, second) is None:
        return "the intervals of the runs are of versions with other divisions of the images; evaluate both again"
    return None


def _plain(figure: MetricFigure, kept: KeptInterval) -> Interval:
    return Interval(figure.value, kept.low, kept.high, kept.level)


def best(figures: Sequence[Measured]) -> tuple[int | None, float]:
    """The index of the figure that the data put first, and the largest p value of its differences from the others.

    It is None where the best two figures tie, or a difference has no interval: there is no telling then.
    """
    distances = [_badness(figure) for figure in figures]
    first = min(range(len(figures)), key=lambda index: distances[index])
    if distances.count(distances[first]) > 1:
        return None, 1.0
    values = [_p(figures[first], other) for index, other in enumerate(figures) if index != first]
    known = [value for value in values if value is not None]
    return (first, max(known)) if len(known) == len(values) else (None, 1.0)


def _badness(figure: Measured) -> float:
    """How far from the best possible figure it is; free of the bias where it can be."""
    value = figure.value
    if isinstance(figure, MetricFigure) and figure.interval is not None and figure.corrected is not None:
        value = figure.corrected
    return -value if figure.better == HIGHER else abs(value) if figure.better == ZERO else value


def _p(one: Measured, other: Measured) -> float | None:
    """The p value of one figure being no better than another.

    Which of two is closer to 0 takes their sum too: |b| > |a| where b - a and b + a have the same sign.
    """
    needed = [difference(one, other)]
    if one.better == ZERO:
        needed.append(difference(one, other, sign=-1))
    values = [found.p for found in needed if found is not None and found.p is not None]
    return max(values) if len(values) == len(needed) else None
