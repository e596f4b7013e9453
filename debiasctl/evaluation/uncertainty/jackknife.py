"""The jackknife of each metric over a division of the images into groups, and extrapolation of Fréchet distances."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from debiasctl.api import spread_indices
from debiasctl.evaluation.metrics.distances import (
    Moments,
    frechet_distance,
    kernel_row_means,
    kernel_self_mean,
    merged_singles,
    weighted_kernel_sums,
)
from debiasctl.evaluation.uncertainty.intervals import GROUPS, Jackknife, jackknife

_SEED = 0  # of the division: one for all sets of images, so that equally large sets are divided alike
_FROM = GROUPS // 2  # the fit in 1/N starts at half of the images
_ROWS = 8192  # rows weighted at once


def group_numbers(num: int, classes: Tensor | None = None, *, groups: int = GROUPS) -> Tensor:
    """The group of each of `num` images, int64 [num]: a random division that is the same for every set of `num`.

    Groups differ by at most one image and, with `classes` [num], by at most one image of each class. The division is
    random because consecutive images, or every 20th, could all be of one class if images are sorted by class or
    classes alternate.
    """
    numbers = torch.empty(num, dtype=torch.int64)
    numbers[_shuffled(num, classes)] = torch.arange(num) % groups
    return numbers


def _shuffled(num: int, classes: Tensor | None) -> Tensor:
    """Shuffle image indices, equally for every set of `num`; with `classes` [num], one class after another."""
    order = torch.randperm(num, generator=torch.Generator().manual_seed(_SEED))
    return order if classes is None else order[torch.argsort(classes[order], stable=True)]


@dataclass(frozen=True)
class Division:
    """N images divided into `groups` [N] (see `group_numbers`), with `classes` [N] if the class counts were chosen.

    With classes the estimator is the extended delete-a-group jackknife (Kott, 2001) with classes as strata: leaving out
    a group does not change the class counts. It is derived in docs/concepts/intervals.md.
    """

    groups: Tensor
    classes: Tensor | None = None

    @classmethod
    def of(cls, num: int, classes: Tensor | None = None) -> Self:
        """Divide `num` images; all classes with a single image are merged, so that others can replace a removed one."""
        if classes is not None:
            classes = merged_singles(classes)
        return cls(group_numbers(num, classes), classes)

    def subset(self, count: int) -> Tensor:
        """Choose `count` of the images (int64, ascending), the same for every set of N, with classes in proportion.

        They are drawn at random, because images may be sorted by class or classes may alternate.
        """
        order = _shuffled(len(self.groups), self.classes)
        return order[spread_indices(len(order), count)].sort().values

    def take(self, indices: Tensor) -> Self:
        """Divide the images at `indices` again, since they may lie in few of the groups."""
        return type(self).of(len(indices), None if self.classes is None else self.classes[indices])

    def weights(self, left_out: tuple[int, ...]) -> Tensor:
        """The replicate weights without the groups `left_out`, float64 [N]; they sum to the number of remaining images.

        Without classes they are 0 and 1. With classes, the remaining images of a class are weighted up to replace the
        removed ones.
        """
        stays = (~torch.isin(self.groups, torch.tensor(left_out, dtype=torch.int64))).to(torch.float64)
        if self.classes is None or not left_out:
            return stays
        change = torch.stack([self._change(group) for group in left_out]).sum(dim=0)
        weights = 1 + change * (GROUPS - 1) / (GROUPS - len(left_out))
        return weights * (stays.sum() / weights.sum())

    def covariance_of_mean(self, rows: Tensor) -> Tensor:
        """The unbiased covariance [D, D] of the mean of `rows` [N, D], within the classes if there are such."""
        rows = rows.to(torch.float64)
        if self.classes is None:
            return rows.T.cov() / len(rows) if rows.shape[1] > 1 else rows.var(dim=0)[None] / len(rows)
        total = rows.new_zeros(rows.shape[1], rows.shape[1])
        for number in range(int(self.classes.max()) + 1):
            moments = Moments(rows.shape[1])
            moments.add(rows[self.classes == number])
            if moments.num > 1:
                total += moments.covariance() * (moments.num / len(rows) ** 2)
        return total

    def _change(self, group: int) -> Tensor:
        """The change of the images' weights [N] when one group is left out; it sums to 0 for each class."""
        assert self.classes is not None, "called only with classes"
        going = self._counts[group]
        staying = self._counts.sum(dim=0) - going
        left = torch.where(self.groups == group, -1.0, (going / staying.clamp(min=1))[self.classes])
        return left * self._factors[self.classes]

    @cached_property
    def _counts(self) -> Tensor:
        """The number of images of each class in each group, float64 [G, K]."""
        assert self.classes is not None, "called only with classes"
        num_classes = int(self.classes.max()) + 1
        cells = torch.bincount(self.groups * num_classes + self.classes, minlength=GROUPS * num_classes)
        return cells.view(GROUPS, num_classes).to(torch.float64)

    @cached_property
    def _factors(self) -> Tensor:
        """The factor of each class, [K]: sqrt(G / ((G - 1) sum of k / (n - k))) for n images with k in a group."""
        staying = self._counts.sum(dim=0) - self._counts
        return (GROUPS / ((GROUPS - 1) * (self._counts / staying).sum(dim=0))).sqrt()


def left_out_sets(groups: int = GROUPS) -> list[tuple[int, ...]]:
    """The sets of groups that `intervals.jackknife` leaves out: none, each group, and each with the next."""
    return [(), *((g,) for g in range(groups)), *((g, (g + 1) % groups) for g in range(groups))]


@dataclass(frozen=True)
class Gaussian:
    """The reference of a Fréchet distance: `mean` [D], `covariance` [D, D] and its symmetric `root`, float64."""

    mean: Tensor
    covariance: Tensor
    root: Tensor

    def distance(self, moments: Moments) -> float:
        """The Fréchet distance of rows with these moments to the reference."""
        return frechet_distance(moments.mean, moments.covariance(), self.mean, self.covariance, root2=self.root)


def group_moments(features: Tensor, division: Division | None = None) -> list[Moments]:
    """The moments of each group's rows of `features` [N, D]."""
    numbers = group_numbers(len(features)) if division is None else division.groups
    found = []
    for group in range(GROUPS):
        moments = Moments(features.shape[1])
        moments.add(features[numbers == group])
        found.append(moments)
    return found


def frechet_jackknife(features: Tensor, reference: Gaussian, division: Division | None = None) -> Jackknife:
    """The jackknife of the Fréchet distance of `features` [N, D] to a fixed `reference`, from 41 distances."""
    division = division or Division.of(len(features))
    if division.classes is not None:
        return jackknife(lambda left_out: reference.distance(_weighted_moments(features, division.weights(left_out))))
    return moments_jackknife(group_moments(features, division), reference)


def moments_jackknife(groups: Sequence[Moments], reference: Gaussian) -> Jackknife:
    """The jackknife of the Fréchet distance of all rows to `reference`, from the moments of each group's rows."""
    total = _union(groups)

    def distance(left_out: tuple[int, ...]) -> float:
        moments = total
        for group in left_out:
            moments = moments.without(groups[group])
        return reference.distance(moments)

    return jackknife(distance)


def _weighted_moments(features: Tensor, weights: Tensor) -> Moments:
    """The moments of rows [N, D] with `weights` [N], whose sum is the number of rows.

    Only a block of rows is copied at a time, because with thousands of dimensions a copy of all takes gigabytes.
    """
    found = Moments(features.shape[1])
    found.num = round(float(weights.sum()))
    blocks = list(zip(torch.split(features, _ROWS), torch.split(weights, _ROWS), strict=True))
    for rows, share in blocks:
        found.mean += share @ rows.to(torch.float64) / found.num
    for rows, share in blocks:
        centred = rows.to(torch.float64) - found.mean
        found.scatter += (centred * share[:, None]).T @ centred
    return found


class KernelSums:
    """The unbiased MMD² of `x` [N, D] and a fixed `y` [M, D] (KID's; Bińkowski et al., 2018, arXiv 1801.01401).

    All pairs are used, in one pass, whereas the usual KID averages over random subsets; the expectation is the same,
    the variance lower, and no seed is needed. The distance may be negative. `y_self` is `kernel_self_mean(y)`. Where
    class counts were chosen, `value` is the distance with pairs counted by class, as `kernel_self_mean` does.
    """

    def __init__(self, x: Tensor, y: Tensor, *, y_self: float, division: Division | None = None) -> None:
        x, y, division = x.to(torch.float64), y.to(torch.float64), division or Division.of(len(x))
        sets = left_out_sets()
        weights = torch.stack([division.weights(left_out) for left_out in sets], dim=1)  # [N, S]
        total, squares = weights.sum(dim=0), weights.square().sum(dim=0)
        within = weighted_kernel_sums(x, weights) / (total**2 - squares)
        across = weights.T @ kernel_row_means(x, y) / total
        self._distances = dict(zip(sets, (within + y_self - 2 * across).tolist(), strict=True))
        self.value = self.distance()
        if division.classes is not None:
            self.value = kernel_self_mean(x, division.classes) + y_self - 2 * float(across[0])

    def distance(self, left_out: tuple[int, ...] = ()) -> float:
        """The distance of all images outside the groups `left_out`."""
        found: float = self._distances[left_out]
        return found

    def jackknife(self) -> Jackknife:
        """The jackknife of the distance."""
        return jackknife(self.distance)


def mean_jackknife(
    values: Tensor, statistic: Callable[[Tensor], float] = float, *, division: Division | None = None
) -> Jackknife:
    """The jackknife of `statistic` of the mean of `values` [N, ...] over images; by default of the mean of [N]."""
    division, values = division or Division.of(len(values)), values.to(torch.float64)

    def of_rest(left_out: tuple[int, ...]) -> float:
        weights = division.weights(left_out)
        mean: Tensor = torch.tensordot(weights, values, dims=1) / weights.sum()
        return float(statistic(mean))

    return jackknife(of_rest)


@dataclass(frozen=True)
class Extrapolation:
    """A fit of `value` + slope/N to a distance at the numbers of images `nums`.

    `se` is the standard error of `value`. `fit_residual`, the root mean square of the fit's residuals, says how
    straight the line is: the points share most of their images, and lie near a line that is far off.
    """

    value: float
    se: float
    fit_residual: float
    nums: list[int]


def extrapolate(groups: Sequence[Moments], reference: Gaussian) -> Extrapolation:
    """Extrapolate the Fréchet distance to infinite N by least squares in 1/N (Chong & Forsyth, 2020, arXiv 1911.07023).

    Subsamples are nested: half of the groups, then two more each time. The standard error is the jackknife's over the
    groups, each left out of all subsamples that it is in.
    """
    nums, distances, solution = _fit(groups, reference, None)
    residual = (solution[0] + solution[1] / nums - distances).square().mean().sqrt()
    changes = torch.stack([_fit(groups, reference, group)[2][0] for group in range(len(groups))]) - solution[0]
    error = ((len(groups) - 1) / len(groups) * changes.square().sum()).sqrt()
    return Extrapolation(float(solution[0]), float(error), float(residual), [int(num) for num in nums])


def _fit(groups: Sequence[Moments], reference: Gaussian, left_out: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """The numbers of images of nested subsamples, their distances, and value and slope of the line through them."""
    nums, distances = [], []
    for count in range(_FROM, len(groups) + 1, 2):
        subsample = _union([one for number, one in enumerate(groups[:count]) if number != left_out])
        nums.append(subsample.num)
        distances.append(reference.distance(subsample))
    sizes, target = torch.tensor(nums, dtype=torch.float64), torch.tensor(distances, dtype=torch.float64)
    design = torch.stack([torch.ones(len(nums)), 1 / sizes], dim=1)
    return sizes, target, torch.linalg.lstsq(design, target[:, None], driver="gelsd").solution[:, 0]


def _union(groups: Sequence[Moments]) -> Moments:
    total = Moments(len(groups[0].mean))
    for group in groups:
        total = total.merged(group)
    return total
