"""Looks at the data while seeds are added, declared beforehand, with the type I error spent over them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtr, ndtri

_LEVELS = tuple(float(level) for level in np.geomspace(1e-7, 0.6, 24))
_GRID = 241  # points of the density between two limits
_SMALLEST = 1e-300
STUDENT = 0.855  # of the level is spent: Student's p values at few seeds cross up to 1.17 times as often as normal ones


@dataclass(frozen=True)
class Looks:
    """The numbers of seeds an arm at which a verdict may stop the sweep, and the one of them that this look is.

    All are declared before the first seed is trained. Arms that lack a seed at this look, because a run failed, change
    nothing in it.

    Raises:
        ValueError: if the numbers do not increase, start below 2, or do not hold `at`.
    """

    planned: tuple[int, ...]
    at: int

    def __post_init__(self) -> None:
        increasing = all(first < second for first, second in zip(self.planned, self.planned[1:], strict=False))
        if not self.planned or self.planned[0] < 2 or not increasing:
            raise ValueError(f"looks are numbers of seeds from 2 that increase, not {self.planned}")
        if self.at not in self.planned:
            raise ValueError(f"{self.at} seeds is none of the looks declared beforehand: {self.planned}")

    def nominal(self, level: float) -> float:
        """The level of this look's own test and interval, if the whole sequence of looks is to have `level`."""
        whole = level if len(self.planned) == 1 else STUDENT * level
        return nominal_levels(self.planned, whole)[self.planned.index(self.at)]

    def spent(self, p: float) -> float:
        """The level of the whole sequence at which this look's p value is just enough: p for stopping at will."""
        own = _logarithms(self)
        logarithm = math.log(max(p, _SMALLEST))
        if logarithm > own[-1]:
            return 1.0
        return float(np.exp(np.interp(logarithm, own, np.log(_LEVELS))))


@lru_cache(maxsize=64)
def _logarithms(looks: Looks) -> tuple[float, ...]:
    return tuple(math.log(looks.nominal(level)) for level in _LEVELS)


def spending(level: float, fraction: float) -> float:
    """The type I error spent by a fraction of the seeds, on each side 2 - 2 Φ(z_{α/4}/√t): Lan and DeMets (1983).

    It is like O'Brien and Fleming's: nearly nothing early, nearly all of it left for the last look.
    """
    return float(4 * ndtr(ndtri(level / 4) / math.sqrt(fraction)))


@lru_cache(maxsize=512)
def nominal_levels(planned: Sequence[int], level: float) -> tuple[float, ...]:
    """Two-sided levels of the single looks that together spend `level`, for a normal statistic.

    The limits are found one after another from the density of the sum of increments that has not yet crossed one
    (Armitage, McPherson and Rowe, 1969). Student's p values are held against the same levels.
    """
    times = [seeds / planned[-1] for seeds in planned]
    levels: list[float] = []
    points, mass = np.zeros(1), np.ones(1)
    before, spent = 0.0, 0.0
    for time in times:
        deviation = math.sqrt(time - before)
        share = max(spending(level, time) - spent, _SMALLEST)
        limit = _limit(points, mass, deviation, share)
        levels.append(max(float(2 * ndtr(-limit / math.sqrt(time))), _SMALLEST))
        grid = np.linspace(-limit, limit, _GRID)
        density = np.exp(-(((grid[:, None] - points) / deviation) ** 2) / 2) @ mass / deviation / math.sqrt(2 * math.pi)
        points, mass = grid, density * _simpson(grid[1] - grid[0])
        before, spent = time, spent + share
    return tuple(levels)


def _limit(points: "np.ndarray", mass: "np.ndarray", deviation: float, share: float) -> float:
    """The limit that the sum crosses, on either side, with the probability `share`."""
    low, high = 0.0, float(np.max(np.abs(points))) + 40 * deviation
    for _ in range(60):
        middle = (low + high) / 2
        crossing = 2 * float(mass @ ndtr((points - middle) / deviation))
        low, high = (middle, high) if crossing > share else (low, middle)
    return (low + high) / 2


def _simpson(step: float) -> "np.ndarray":
    weights = np.full(_GRID, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    return weights * step / 3
