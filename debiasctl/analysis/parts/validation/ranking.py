"""Kendall's tau-b over chosen pairs of points, with an interval by resampling runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Scope = Literal["all", "between", "within"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
DRAWS, LEVEL = 2000, 0.95
MIN_RUNS = 6
_ENOUGH = 0.9  # of the draws that must have a tau


@dataclass(frozen=True)
class Points:
    """Points of runs: the run's number, the training images, and the distance, [n] each."""

    run: NDArray[np.int64]
    images: NDArray[np.int64]
    distance: Array

    @property
    def num_runs(self) -> int:
        """How many runs there are."""
        return int(self.run.max()) + 1

    def pairs(self, scope: Scope) -> Array:
        """Which pairs are compared, [n, n] of 0 and 1: all, those of different runs after equally many images, or
        those of one run."""
        same_run = self.run[:, None] == self.run
        chosen = {
            "all": np.ones_like(same_run),
            "between": ~same_run & (self.images[:, None] == self.images),
            "within": same_run,
        }[scope]
        return np.asarray(np.triu(chosen, 1), dtype=np.float64)


@dataclass(frozen=True)
class Tau:
    """A rank correlation, its 95 % interval over runs (None where runs cannot be resampled), and its draws."""

    value: float
    low: float | None
    high: float | None
    draws: Array


class Ranking:
    """Taus of several scores with one distance; all are resampled alike, so that their differences are paired.

    Tau-b is the concordant pairs less the discordant ones, over the geometric mean of the numbers of pairs that are not
    tied in the one and in the other (Kendall, 1945). A bootstrap draw takes whole runs, with all of their checkpoints;
    a run that is drawn twice is not compared with itself.
    """

    def __init__(self, points: Points, *, seed: int, draws: int = DRAWS) -> None:
        self.points = points
        generator = np.random.default_rng(seed)
        count = points.num_runs
        self._counts = generator.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)

    def tau(self, scores: Array, scope: Scope) -> Tau | None:
        """The tau of scores [n]; None where no pair tells, as all are tied."""
        sums = self._sums(scores, scope)
        value = _tau(*(one.sum() for one in sums))
        if not np.isfinite(value):
            return None
        draws = _tau(*(self._drawn(one, within=scope == "within") for one in sums))
        known = draws[np.isfinite(draws)]
        if self.points.num_runs < MIN_RUNS or len(known) < _ENOUGH * len(draws):
            return Tau(float(value), None, None, draws)
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Tau(float(value), float(low), float(high), draws)

    def _sums(self, scores: Array, scope: Scope) -> tuple[Array, Array, Array]:
        """Sums over the pairs of each two runs, [R, R]: concordant less discordant, untied in scores, in distance."""
        pairs, distance = self.points.pairs(scope), self.points.distance
        of_scores = np.sign(scores[:, None] - scores)
        of_distance = np.sign(distance[:, None] - distance)
        member = np.eye(self.points.num_runs)[self.points.run]
        tables = (of_scores * of_distance, np.abs(of_scores), np.abs(of_distance))
        first, second, third = (member.T @ (pairs * one) @ member for one in tables)
        return first, second, third

    def _drawn(self, sums: Array, *, within: bool) -> Array:
        """The sums with each run as often as it was drawn, [draws]."""
        own = np.diag(sums)
        alone = self._counts @ own
        if within:
            return alone
        across = np.einsum("dr,rs,ds->d", self._counts, sums - np.diag(own), self._counts)
        return np.asarray(alone + across)


def _tau(agreeing: Array, first: Array, second: Array) -> Array:
    norm = np.sqrt(np.asarray(first * second))
    return np.divide(agreeing, norm, out=np.full_like(norm, np.nan), where=norm > 0)


def difference(one: Tau, other: Tau) -> tuple[float, float, float] | None:
    """The difference of two taus, and its 95 % interval from paired draws; None where they have no intervals."""
    draws = one.draws - other.draws
    known = draws[np.isfinite(draws)]
    if one.low is None or other.low is None or not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return one.value - other.value, float(low), float(high)


def best(taus: Sequence[tuple[str, Tau]]) -> tuple[str, Tau]:
    """The name and tau of the highest."""
    return max(taus, key=lambda one: one[1].value)
