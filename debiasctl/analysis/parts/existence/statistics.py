"""Means and squared means of errors over images with their intervals, free of the bias that noise gives to squares.

All intervals are of 95 % and cover the choice of images and of noises, not the network's training seed.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debiasctl.evaluation.uncertainty.intervals import GROUPS, LEVEL, Jackknife, jackknife, squared_interval
from debiasctl.evaluation.uncertainty.jackknife import group_numbers, left_out_sets

Array = NDArray[np.float64]
MIN_IMAGES = 8  # of which a standard error can be had


@dataclass(frozen=True)
class Figure:
    """A figure with its standard error and its interval."""

    value: float
    se: float
    low: float
    high: float

    def times(self, factor: float) -> "Figure":
        """The figure in another unit; `factor` is not negative."""
        return Figure(*(factor * one for one in (self.value, self.se, self.low, self.high)))

    def widened(self, *, below: float = 0.0, above: float = 0.0) -> "Figure":
        """The figure with a wider interval."""
        return Figure(self.value, self.se, self.low - below, self.high + above)

    def with_error(self, error: float, *, quantile: float) -> "Figure":
        """The figure with a further standard error, independent of its own."""
        below, above = (math.hypot(half, quantile * error) for half in (self.value - self.low, self.high - self.value))
        return Figure(self.value, math.hypot(self.se, error), self.value - below, self.value + above)


def quantile(num: int) -> float:
    """Student's quantile for an interval of the mean of `num` images."""
    from scipy.special import stdtrit

    return float(stdtrit(num - 1, (1 + LEVEL) / 2))


def mean(values: Array) -> Figure:
    """The mean of `values` [N], one an image."""
    return _figure(float(values.mean()), values)


def ratio(numerator: Array, denominator: Array) -> Figure:
    """The ratio of the means of two columns [N], one value an image, by linearisation."""
    below = float(denominator.mean())
    value = float(numerator.mean()) / below
    return _figure(value, (numerator - value * denominator) / below)


def _figure(value: float, influence: Array) -> Figure:
    num = len(influence)
    se = float(influence.std(ddof=1)) / math.sqrt(num)
    half = quantile(num) * se
    return Figure(value, se, value - half, value + half)


@dataclass(frozen=True)
class SquaredMean:
    """The squared length of a mean vector in each band, of which pairs of different images alone are counted.

    `pseudo` and `interactions` [B, G] are its jackknife over groups of images, and `plain` [B] is the squared length
    with its bias. All are linear in the bands, and in levels that have the same images: sums and means of them are
    the squared means' own.
    """

    pseudo: Array
    interactions: Array
    plain: Array

    @classmethod
    def of(cls, vectors: Tensor, band: Tensor, *, num_bands: int) -> "SquaredMean":
        """The squared mean of `vectors` float64 [N, F], of whose columns `band` int64 [F] gives the band.

        It is the sum over i ≠ j of <d_i, d_j>/(N (N - 1)), whose expectation is |E d|² whatever the noise of d is.
        """
        num = len(vectors)
        groups = min(GROUPS, num)
        numbers = group_numbers(num, groups=groups)
        sums = vectors.new_zeros(groups, vectors.shape[1]).index_add_(0, numbers, vectors)
        squares = vectors.new_zeros(groups, num_bands)
        squares.index_add_(0, numbers, in_bands(vectors.square(), band, num_bands=num_bands))
        counts = torch.bincount(numbers, minlength=groups).tolist()
        grams = [(part := sums[:, band == number]) @ part.T for number in range(num_bands)]
        found = [_pairs(gram, squares[:, number], counts) for number, gram in enumerate(grams)]
        plain = np.array([float(gram.sum()) / num**2 for gram in grams])
        return cls(np.array([one.pseudo_values for one in found]), np.array([one.interactions for one in found]), plain)

    def sum(self) -> "SquaredMean":
        """The squared length in all bands together, as a single one."""
        return SquaredMean(*(one.sum(axis=0, keepdims=True) for one in (self.pseudo, self.interactions, self.plain)))

    def times(self, factor: float) -> "SquaredMean":
        """The squared mean in another unit."""
        return SquaredMean(factor * self.pseudo, factor * self.interactions, factor * self.plain)

    def figure(self, number: int = 0) -> Figure:
        """The figure of a band; it may be below 0, and has the interval of a squared distance."""
        kept = Jackknife(self.pseudo[number].tolist(), self.interactions[number].tolist())
        found = squared_interval(kept, float(self.plain[number]))
        groups = self.pseudo.shape[1]
        se = float(self.pseudo[number].std(ddof=1)) / math.sqrt(groups)
        return Figure(found.estimate, se, found.low, found.high)


def _pairs(gram: Tensor, squares: Tensor, counts: list[int]) -> Jackknife:
    """The jackknife of the mean over pairs of different images, from the products of the groups' sums [G, G]."""
    groups = len(counts)
    found = {}
    for left_out in left_out_sets(groups):
        kept = torch.ones(groups, dtype=torch.float64)
        kept[list(left_out)] = 0
        num = float((kept * torch.tensor(counts)).sum())
        found[left_out] = float(kept @ gram @ kept - kept @ squares) / (num * (num - 1))
    return jackknife(lambda left_out: found[left_out], groups=groups)


def average(parts: list[SquaredMean]) -> SquaredMean:
    """The mean of several levels' squared means, of the same images."""
    return SquaredMean(
        *(np.mean([getattr(part, name) for part in parts], axis=0) for name in ("pseudo", "interactions", "plain"))
    )


def in_bands(values: Tensor, band: Tensor, *, num_bands: int) -> Tensor:
    """The sums of `values` float64 [N, F] over the columns of each band, [N, B]."""
    return values.new_zeros(len(values), num_bands).index_add_(1, band, values)
