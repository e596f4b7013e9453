"""How many seeds an arm a verdict needs: for the difference seen, and to find two equal arms equivalent."""

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit

from debiasctl.comparison.statistics.estimates import LEVEL
from debiasctl.comparison.statistics.noncentral import noncentrality

POWER = 0.8
MOST = 1000  # seeds an arm: no more are proposed
_EXACT = 400  # degrees of freedom up to which the noncentral t is inverted; the approximation is good beyond


PAIRS = 5  # seeds an arm, below which seeds are never paired
CORRELATION = 0.3  # of the arms over seeds, at which pairing has to gain what its degrees of freedom cost


@dataclass(frozen=True)
class Design:
    """How more seeds would be compared: `arms` of equal size pooled, or pairs of seeds from `pairs_from` on."""

    arms: int
    pairs_from: int | None  # seeds an arm; None if never


@lru_cache(maxsize=64)
def pairs_from(arms: int) -> int:
    """The complete pairs from which they are tested as pairs: 5 with two arms, 7 with three, 9 with four, and so on.

    Two arms in pairs have n - 1 degrees of freedom, and arms pooled k (n - 1). From this number on, pairs that
    correlate by 0.3 find a smaller difference with 80 % power, if each of k - 1 comparisons has its share of the level.
    """
    level = LEVEL / max(arms - 1, 1)
    seeds = np.arange(PAIRS, MOST)
    paired, pooled = (detectable(count * (seeds - 1.0), level, POWER) for count in (1, arms))
    return int(seeds[np.argmax(paired * math.sqrt(1 - CORRELATION) <= pooled)])


def seeds_for_difference(difference: float, spread: float, design: Design, *, level: float = LEVEL) -> int | None:
    """The seeds an arm at which a true difference of this size is found with 80 % power; None of more than 1,000.

    `spread` is the standard deviation of one run (1/√2 of that of a difference, where seeds are paired).
    """
    return _first(abs(difference) / spread, needed_effects(design, level, POWER)) if difference else None


def seeds_for_equivalence(margin: float, spread: float, design: Design, *, level: float = LEVEL) -> int | None:
    """The seeds an arm at which two equal arms are found equivalent with 80 % power; None of more than 1,000.

    Both one-sided tests have to reject, each with a power of 90 % or more.
    """
    return _first(margin / spread, needed_effects(design, level, (1 + POWER) / 2))


def _first(effect: float, needed: tuple[float, ...]) -> int | None:
    """The least number of seeds from two on at which an effect of this size is enough."""
    index = len(needed) - bisect_right(needed, effect)
    return index + 2 if index < len(needed) else None


@lru_cache(maxsize=256)
def needed_effects(design: Design, level: float, power: float) -> tuple[float, ...]:
    """The difference, in standard deviations of one run, found with this power at 1,000, ..., 3, 2 seeds an arm.

    It never rises with the number of seeds: where pairing costs more than it gives, the smaller one before stands.
    """
    seeds = np.arange(2, MOST + 1)
    freedom = design.arms * (seeds - 1)
    if design.pairs_from is not None:
        freedom = np.where(seeds >= design.pairs_from, seeds - 1, freedom)
    effects = detectable(freedom.astype(float), level, power) * np.sqrt(2 / seeds)
    return tuple(np.minimum.accumulate(effects)[::-1].tolist())


def detectable(freedom: "np.ndarray", level: float, power: float) -> "np.ndarray":
    """The noncentrality at which a t test with this two-sided level rejects in its own direction with this power."""
    limit = -stdtrit(freedom, level / 2)
    rough = limit + ndtri(power) * np.sqrt(1 + limit**2 / (2 * freedom))
    small = freedom <= _EXACT
    rough[small] = noncentrality(freedom[small], limit[small], 1 - power)
    return np.asarray(rough)
