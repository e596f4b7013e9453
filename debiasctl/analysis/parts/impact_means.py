"""Means over independent images or noises with standard errors and 95 % limits, for many figures at once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debiasctl.evaluation.metrics.distances import merged_singles
from debiasctl.evaluation.uncertainty.intervals import LEVEL

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Means:
    """Figures [...] with their standard errors and the degrees of freedom of those.

    They cover the sampling of images and noises, as if the network were given: not the seeds of training.
    """

    value: Array
    se: Array
    freedom: float
    least: float = -np.inf  # below which no figure can lie

    @property
    def half(self) -> Array:
        """Half of the width of each 95 % interval, by Student's t."""
        from scipy.special import stdtrit

        half: Array = stdtrit(self.freedom, 0.5 + LEVEL / 2) * self.se
        return half

    @property
    def low(self) -> Array:
        """The lower limits."""
        return np.maximum(self.value - self.half, self.least)

    @property
    def high(self) -> Array:
        """The upper limits."""
        return self.value + self.half

    def __getitem__(self, index: Any) -> "Means":
        """Some of the figures."""
        return Means(np.asarray(self.value[index]), np.asarray(self.se[index]), self.freedom)

    def less(self, constant: Any) -> "Means":
        """The figures minus known numbers."""
        return Means(self.value - np.asarray(constant, dtype=np.float64), self.se, self.freedom)

    def minus(self, other: "Means") -> "Means":
        """The difference of two independent figures; its degrees of freedom are Welch's at the largest errors."""
        value, se = self.value - other.value, np.hypot(self.se, other.se)
        parts = [(float(one.se.max(initial=0.0)) ** 2, one.freedom) for one in (self, other)]
        total = sum(variance for variance, _ in parts)
        below = sum(variance**2 / freedom for variance, freedom in parts)
        return Means(value, se, total**2 / below if below > 0 else min(self.freedom, other.freedom))

    def log(self) -> "Means":
        """The logarithms of positive figures, by the delta method."""
        safe = np.maximum(self.value, np.finfo(np.float64).tiny)
        return Means(np.log(safe), self.se / safe, self.freedom)


def means_of(rows: Array, classes: Tensor | None = None) -> Means:
    """The means over images of `rows` [N, ...]; with `classes` [N], whose counts were chosen, within classes.

    Chosen counts do not vary from one set of samples to another, and so the differences between classes are no error.
    """
    rows = np.asarray(rows, dtype=np.float64)
    num = len(rows)
    value = rows.mean(axis=0)
    if classes is None:
        variance = rows.var(axis=0, ddof=1) / num if num > 1 else np.full(value.shape, np.inf)
        return Means(value, np.sqrt(variance), max(num - 1, 1))
    strata = merged_singles(classes.cpu())
    variance, freedom = np.zeros(value.shape), 0
    for number in range(int(strata.max()) + 1):
        own = rows[(strata == number).numpy()]
        if len(own) > 1:
            variance = variance + own.var(axis=0, ddof=1) * len(own) / num**2
            freedom += len(own) - 1
    return means_of(rows) if freedom < 1 else Means(value, np.sqrt(variance), freedom)


def extended(rows: Array, usual: Array, classes: Tensor | None = None) -> Means:
    """The means of `rows` [n, ...], known of the first n noises, with the help of `usual` [N, ...], known of all N.

    It is the mean of `usual` plus that of the differences, which vary far less. The classes are those of all N.
    """
    num, few = len(usual), len(rows)
    if few == num:
        return means_of(rows, classes)
    apart = rows - usual[:few]
    change = means_of(apart, None if classes is None else classes[:few])
    errors = (usual - usual.mean(axis=0)) / num  # what each noise adds to both means
    errors[:few] += (apart - apart.mean(axis=0)) / few
    return Means(usual.mean(axis=0) + change.value, np.sqrt((errors**2).sum(axis=0)), change.freedom)


def strata(labels: Tensor | None) -> Tensor | None:
    """The classes of samples, where there are several: their counts are those of the data, and so chosen."""
    return None if labels is None or len(torch.unique(labels)) < 2 else labels


def root_mean_square(squares: Array, classes: Tensor | None = None) -> Means:
    """The root of the mean of each image's mean square, `squares` [N, ...] (delta method)."""
    found = means_of(squares, classes)
    root = np.sqrt(found.value)
    return Means(root, found.se / (2 * np.maximum(root, np.finfo(np.float64).tiny)), found.freedom, least=0.0)
