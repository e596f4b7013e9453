"""How many times sooner one arm reaches a level than another: in images trained on, or in sampling steps."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from debiasctl.comparison.statistics.estimates import Estimate, mean
from debiasctl.comparison.statistics.paired import paired
from debiasctl.comparison.statistics.pooled import pooled, pooled_spread, summary

Curve = Sequence[tuple[float, float]]  # (x, figure), with x increasing: images seen, or steps
Bound = Literal["exact", "at least", "at most"]


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where a curve first reaches the level: at x, or "at least" its last x, or "at most" its first."""

    x: float
    bound: Bound = "exact"


@dataclass(frozen=True)
class SpeedUp:
    """How many times sooner the arm reaches the level than the reference: above 1 if it is faster.

    Where a curve ends before the level, its last point is counted and `bound` says that the ratio is "at least" or "at
    most" this. The interval then has no upper, or no lower, limit.
    """

    level: float
    ratio: float | None
    low: float | None
    high: float | None
    p: float | None
    bound: Bound | None  # None where there is no ratio
    num: tuple[int, int]  # curves of the arm and the reference that it rests on
    paired: bool
    crossings: Mapping[int, Crossing]  # of the arm, by seed
    reference_crossings: Mapping[int, Crossing]
    note: str | None


def crossing(curve: Curve, level: float, *, better: Literal["lower", "higher"]) -> Crossing:
    """The first x at which the curve reaches the level, between two points by linear interpolation.

    Points without a finite figure count as not reaching it.

    Raises:
        ValueError: if the curve is empty, or its x are not positive numbers that increase.
    """
    points = list(curve)
    places = [x for x, _ in points]
    if not points or not all(math.isfinite(x) for x in places) or places[0] < 0:
        raise ValueError("a curve has one or more points, whose x are finite and not below 0")
    if any(second <= first for first, second in itertools.pairwise(places)):
        raise ValueError("the x of a curve have to increase")
    sign = 1 if better == "lower" else -1
    gaps = [(x, sign * (y - level)) for x, y in points]  # at most 0 where the level is reached
    for index, (x, gap) in enumerate(gaps):
        if gap <= 0 and math.isfinite(gap):
            if index == 0:
                return Crossing(x, "at most")
            before, above = gaps[index - 1]
            return Crossing(x - (x - before) * gap / (gap - above) if math.isfinite(above) else x)
    return Crossing(points[-1][0], "at least")


def speed_up(
    arm: Mapping[int, Curve],
    reference: Mapping[int, Curve],
    *,
    level: float,
    better: Literal["lower", "higher"],
) -> SpeedUp:
    """The ratio of the x at which the reference and the arm reach the level, from one curve a seed.

    The level has to be declared before training, or be set by a third arm. With the reference's own last figure as the
    level, two equal arms seem to differ, as it is one of the lowest of its own curve. Seeds are paired where both arms
    have the same, whatever their number, as the noise of one curve's crossing is large.

    Raises:
        ValueError: as `crossing`, or if the level is not finite.
    """
    if not math.isfinite(level):
        raise ValueError(f"a level is a finite number, not {level}")
    found = {seed: crossing(curve, level, better=better) for seed, curve in arm.items()}
    base = {seed: crossing(curve, level, better=better) for seed, curve in reference.items()}
    if set(found) == set(base):
        return _paired(found, base, level)
    return _unpaired(found, base, level)


def _paired(found: Mapping[int, Crossing], base: Mapping[int, Crossing], level: float) -> SpeedUp:
    """From the mean of ln(x_reference / x_arm) over pairs; pairs that say nothing are left out and counted."""
    kept = [(found[seed], base[seed]) for seed in sorted(found) if _ratio_bound(found[seed], base[seed]) is not None]
    left = len(found) - len(kept)
    note = (
        f"{left} of {len(found)} pairs say nothing, as neither curve reaches the level within its points"
        if left
        else None
    )
    bounds = {_ratio_bound(*pair) for pair in kept}
    logs = [[math.log(one.x) for one in side] for side in zip(*kept, strict=True)] if kept else [[], []]
    estimate = paired(logs[1], logs[0]) if len(kept) > 1 else None
    return _speed_up(found, base, level, (logs[0], logs[1]), estimate, bounds, note, True)


def _unpaired(found: Mapping[int, Crossing], base: Mapping[int, Crossing], level: float) -> SpeedUp:
    """From the difference of the means of ln x; no curve can be left out, as no partner is left out with it."""
    sides = (list(found.values()), list(base.values()))
    bounds = {_ratio_bound(one, other) for one in sides[0] for other in sides[1]}
    if None in bounds:
        note = "curves of both arms do not reach the level within their points, and seeds are not paired"
        return _speed_up(found, base, level, ([], []), None, set(), note, False)
    logs = [[math.log(one.x) for one in side] for side in sides]
    arms = [summary(side) for side in logs if side]
    spread = pooled_spread(arms)
    estimate = pooled(arms[1], arms[0], spread) if spread is not None and min(map(len, logs)) > 1 else None
    return _speed_up(found, base, level, (logs[0], logs[1]), estimate, bounds, None, False)


def _ratio_bound(arm: Crossing, reference: Crossing) -> Bound | None:
    """What is known of x_reference / x_arm; None if nothing, as where neither is reached."""
    if min(arm.x, reference.x) <= 0:
        return None
    pulls = {
        {"exact": 0, "at least": 1, "at most": -1}[reference.bound],
        {"exact": 0, "at least": -1, "at most": 1}[arm.bound],
    }
    if {1, -1} <= pulls:
        return None
    return "at least" if 1 in pulls else "at most" if -1 in pulls else "exact"


def _speed_up(
    found: Mapping[int, Crossing],
    base: Mapping[int, Crossing],
    level: float,
    logs: tuple[Sequence[float], Sequence[float]],
    estimate: Estimate | None,
    bounds: set[Bound | None],
    note: str | None,
    pairs: bool,
) -> SpeedUp:
    """The result from logarithms of x, where a censored curve counts with its last point.

    Each counted ratio is then no larger (or no smaller) than the true one, so that the limit on that side still holds.
    """
    num = (len(logs[0]), len(logs[1]))
    if {"at least", "at most"} <= bounds:
        note = "curves of both arms do not reach the level within their points, in different seeds"
    if not bounds or not min(num) or {"at least", "at most"} <= bounds:
        note = note or "neither arm reaches the level within its points"
        return SpeedUp(level, None, None, None, None, None, num, pairs, found, base, note)
    bound: Bound = "at least" if "at least" in bounds else "at most" if "at most" in bounds else "exact"
    value = mean(logs[1]) - mean(logs[0])
    if estimate is None:
        few = (
            "one curve an arm allows no interval" if min(num) < 2 else "the ratios do not vary over seeds: no interval"
        )
        return SpeedUp(level, math.exp(value), None, None, None, bound, num, pairs, found, base, _joined(note, few))
    low, high = (math.exp(min(limit, 700.0)) for limit in estimate.interval())
    p = estimate.p()
    if bound != "exact":
        against = (value > 0) != (bound == "at least")  # such a bound is no evidence in this direction
        p = 1.0 if against else p
    return SpeedUp(
        level,
        math.exp(value),
        None if bound == "at most" else low,
        None if bound == "at least" else high,
        p,
        bound,
        num,
        pairs,
        found,
        base,
        note,
    )


def _joined(*notes: str | None) -> str:
    return "; ".join(note for note in notes if note is not None)
