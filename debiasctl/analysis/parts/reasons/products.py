"""Products of mean gradients, free of their noise, and what follows from them, with intervals over groups of images."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
GROUPS = 10
LEVEL = 0.95
_COLUMNS = 2**18  # of vectors multiplied at once


@dataclass(frozen=True)
class Estimate:
    """Figures [...] with their jackknife standard errors and 95 % intervals (Student's t); NaN where there is none."""

    value: Array
    se: Array
    low: Array
    high: Array

    def limited(self, low: float, high: float) -> "Estimate":
        """The same with values and intervals cut to what is possible."""
        return Estimate(*(one if one is self.se else one.clip(low, high) for one in self._parts))

    def where(self, known: NDArray[np.bool_]) -> "Estimate":
        """The same, with NaN where not `known`."""
        return Estimate(*(np.where(known, one, np.nan) for one in self._parts))

    def at(self, *place: int) -> "Estimate":
        """Those at a place, of at least one dimension."""
        return Estimate(*(np.atleast_1d(one[place]) for one in self._parts))

    @property
    def _parts(self) -> tuple[Array, Array, Array, Array]:
        return self.value, self.se, self.low, self.high


def jackknifed(statistic: Callable[[int | None], Array], *, groups: int = GROUPS, pairs: int = 1) -> Estimate:
    """The jackknife of `statistic(left_out)`, the figures of all groups or of all but one.

    Intervals are for independent groups of images; with `pairs` of them at once, all hold together (Bonferroni).
    """
    from scipy.special import stdtrit

    value = statistic(None)
    rest = np.stack([statistic(group) for group in range(groups)])
    se = np.sqrt((groups - 1) / groups * np.square(rest - rest.mean(axis=0)).sum(axis=0))
    half = float(stdtrit(groups - 1, 1 - (1 - LEVEL) / 2 / pairs)) * se
    return Estimate(value, se, value - half, value + half)


@dataclass(frozen=True)
class Moments:
    """Of mean gradients of B parts over J groups: `products` [B, B] of their expectations, and the groups' variance.

    `products` leaves out the products of a group with itself, whose noise does not average out (a U-statistic).
    `variances` [B] are the sums over all directions of the variance of a group's gradient.
    """

    products: Array
    variances: Array


class Products:
    """The products of all groups' gradients [J, B, D] with one another, from which each group can be left out."""

    def __init__(self, gradients: NDArray[np.floating]) -> None:
        groups, parts, width = gradients.shape
        rows = gradients.reshape(groups * parts, width)
        gram = np.zeros((len(rows), len(rows)))
        for start in range(0, width, _COLUMNS):
            block = rows[:, start : start + _COLUMNS].astype(np.float64)
            gram += block @ block.T
        self.groups = groups
        found = gram.reshape(groups, parts, groups, parts)
        self._sum = found.sum(axis=(0, 2))
        self._with_all = found.sum(axis=2)  # [J, B, B]: of a group's gradients and the sums of all groups'
        self._own = np.stack([found[group, :, group] for group in range(groups)])  # [J, B, B]

    def moments(self, left_out: int | None) -> Moments:
        """The moments of all groups, or of all but one."""
        total, own, count = self._sum, self._own.sum(axis=0), self.groups
        if left_out is not None:
            with_all, alone = self._with_all[left_out], self._own[left_out]
            total, own, count = total - with_all - with_all.T + alone, own - alone, count - 1
        products = (total - own) / (count * (count - 1))
        variances = (np.diag(own) - np.diag(total) / count) / (count - 1)
        return Moments(products, variances)

    def jackknifed(self, statistic: Callable[[Moments], Array], *, pairs: int = 1) -> Estimate:
        """The jackknife of figures that follow from the moments."""
        return jackknifed(lambda left_out: statistic(self.moments(left_out)), groups=self.groups, pairs=pairs)


def squared_norms(found: Moments) -> Array:
    """The squared norms [B] of the parts' mean gradients; by chance some may be negative."""
    return np.diag(found.products)


def norm_shares(found: Moments) -> Array:
    """Each part's norm of the mean gradient, as a share of the sum of the norms, [B]."""
    norms = np.sqrt(squared_norms(found).clip(min=0))
    return _shares(norms)


def known_norm_shares(found: Products) -> Estimate:
    """The shares of `norm_shares` with their intervals; those of norms that may be 0 reach from 0 to what they allow.

    NaN where no part's gradient can be told from noise. Simulated with as few groups, the other intervals cover what
    they should at any noise, and these do not without the change.
    """
    squares, estimate = found.jackknifed(squared_norms), found.jackknifed(norm_shares)
    distinct = squares.low > 0
    total = float(np.sqrt(squares.value.clip(min=0)).sum())
    most = np.sqrt(squares.high.clip(min=0)) / total if total > 0 else np.full_like(squares.high, np.nan)
    found_or_not = np.full(len(distinct), bool(distinct.any()))
    low = np.where(distinct, estimate.low, 0.0)
    high = np.where(distinct, estimate.high, np.fmax(most, estimate.high))
    return Estimate(estimate.value, estimate.se, low, high).where(found_or_not).limited(0, 1)


def projections(found: Moments) -> Array:
    """Each part's projection on the whole mean gradient, as a share of its squared norm, [B]; the sum is 1."""
    along = found.products.sum(axis=1)
    return _shares(along)


def square_shares(found: Moments, shares: Sequence[float], size: int) -> Array:
    """Each part's share [B] of the mean squared norm of single images' gradients, t drawn with probabilities `shares`.

    A group has `size` images.
    """
    return _shares((size * found.variances + squared_norms(found)) / np.asarray(shares))


def signal_to_noise(found: Moments, size: int) -> Array:
    """The squared norm of each part's mean gradient over the variance of a single image's, [B]."""
    return _divided(squared_norms(found), size * found.variances)


def noise_scale(found: Moments, shares: Sequence[float], size: int) -> Array:
    """The batch size at which the gradient's squared norm equals its variance, [1] (arXiv 1812.06162, Eq. 2.9)."""
    whole = float(found.products.sum())
    squares = float(((size * found.variances + squared_norms(found)) / np.asarray(shares)).sum())
    return np.array([(squares - whole) / whole if whole > 0 else math.nan])


def cosines(found: Moments) -> Array:
    """The cosines between the parts' mean gradients, [B, B]; NaN where a squared norm is not positive."""
    squares = squared_norms(found)
    norms = np.sqrt(np.where(squares > 0, squares, np.nan))
    return np.asarray(found.products / np.outer(norms, norms))


def merged(found: Moments, groups: Sequence[Sequence[int]]) -> Moments:
    """The moments of sums of parts; their variances are left out."""
    member = np.array([[float(part in group) for part in range(len(found.products))] for group in groups])
    return Moments(member @ found.products @ member.T, np.full(len(groups), np.nan))


def _shares(values: Array) -> Array:
    total = float(values.sum())
    return values / total if total > 0 else np.full_like(values, np.nan)


def _divided(values: Array, by: Array) -> Array:
    return np.divide(values, by, out=np.full_like(values, np.nan), where=by > 0)
