"""Shifts of mean colours, how much of them an intervention takes away, and their jackknife over chunks of images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEVEL = 0.05  # at which the samples are shifted
_CHUNK, _LEAST_CHUNKS = 16, 10  # samples that one jackknife replicate leaves out, and replicates
_GROUPS = 20  # of the images of a data set


def chunk_of(num: int) -> int:
    """The samples in a chunk, of which there are at least ten."""
    return max(1, min(_CHUNK, num // _LEAST_CHUNKS))


@dataclass(frozen=True)
class Means:
    """A mean over images and what it is without each of its groups: `value` [...] and `without` [K, ...]."""

    value: Array
    without: Array

    @classmethod
    def of(cls, rows: Array, *, chunk: int | None = None) -> "Means":
        """Of rows [N, ...]: chunks of neighbours or, for a data set's images, 20 groups of every 20th."""
        size = len(rows)
        group = np.arange(size) // chunk if chunk else np.arange(size) % min(_GROUPS, size)
        counts = np.bincount(group)
        sums = np.zeros((len(counts), *rows.shape[1:]))
        np.add.at(sums, group, rows)
        rest = (size - counts).reshape(-1, *[1] * (rows.ndim - 1))
        return cls(rows.mean(axis=0), (sums.sum(axis=0) - sums) / np.maximum(rest, 1))

    def fixed(self) -> "Means":
        """The same mean taken as known exactly."""
        return Means(self.value, self.value[None])


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error and the degrees of freedom of that."""

    value: float
    se: float
    freedom: int

    def limits(self, *, level: float = 0.95) -> tuple[float, float]:
        """Student's interval."""
        half = self.quantile(0.5 + level / 2) * self.se
        return self.value - half, self.value + half

    def quantile(self, probability: float) -> float:
        """Student's quantile at these degrees of freedom."""
        from scipy.special import stdtrit

        return float(stdtrit(self.freedom, probability))


def jackknifed(statistic: Callable[..., Array], *sources: Means) -> list[Estimate]:
    """Figures that `statistic` computes [S] of one mean of each source, independent of one another."""
    values = [source.value for source in sources]
    full = np.atleast_1d(statistic(*values))
    variance, freedom = np.zeros_like(full), math.inf
    for place, source in enumerate(sources):
        count = len(source.without)
        if count < 2:
            continue
        replicates = np.stack(
            [np.atleast_1d(statistic(*values[:place], one, *values[place + 1 :])) for one in source.without]
        )
        variance += (count - 1) / count * np.square(replicates - replicates.mean(axis=0)).sum(axis=0)
        freedom = min(freedom, count - 1)
    degrees = int(freedom) if math.isfinite(freedom) else 1
    return [Estimate(float(one), math.sqrt(float(two)), degrees) for one, two in zip(full, variance, strict=True)]


def squared(shift: Array) -> Array:
    """The squared length over channels of shifts [..., C]."""
    total: Array = np.square(shift).sum(axis=-1)
    return total


def shift_p_value(rows: Array, reference: Array, *, more: Array | None = None) -> float:
    """Hotelling's test that the mean of `rows` [N, C] is `reference` [C], whose own covariance [C, C] is `more`."""
    from scipy.special import fdtrc

    num, channels = rows.shape
    covariance = np.atleast_2d(np.cov(rows.T)) / num
    if more is not None:
        covariance = covariance + more
    shift = rows.mean(axis=0) - reference
    if not np.any(covariance):
        return float(not np.any(shift))
    length = float(shift @ np.linalg.pinv(covariance) @ shift)
    return float(fdtrc(channels, num - channels, length * (num - channels) / (channels * (num - 1))))


def covariance_of_mean(rows: Array) -> Array:
    """The covariance [C, C] of the mean of independent rows [N, C]."""
    return np.atleast_2d(np.cov(rows.T)) / len(rows)


def leading(figures: Sequence[float], causes: Sequence[str]) -> list[int]:
    """For each figure, the index of the largest one of another cause; -1 where there is no other cause."""
    found = []
    for cause in causes:
        others = [number for number, other in enumerate(causes) if other != cause]
        found.append(max(others, key=lambda number: figures[number]) if others else -1)
    return found
