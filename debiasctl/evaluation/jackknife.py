"""The jackknife of each metric over one division of the images into groups; the Fréchet distance's law in N."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from debiasctl.evaluation.distances import Moments, frechet_distance, kernel_row_means, weighted_kernel_sums
from debiasctl.evaluation.intervals import GROUPS, Jackknife, jackknife

_SEED = 0  # of the division: one for all sets of images, so that those of one number are divided alike
_FEWEST = 3  # images of a class
_FROM = GROUPS // 2  # the fit in 1/N starts at half of the images
_ROWS = 8192  # rows that are weighted at once


def group_numbers(num: int, classes: Tensor | None = None, *, groups: int = GROUPS) -> Tensor:
    """The group of each of `num` images, int64 [num]: a random division that is the same for every set of `num`.

    Groups differ by at most one image, and so, with `classes` [num], do their shares of a class. Neither images sorted
    by class nor classes that take turns make groups of one class, as groups of consecutive images or of every 20th
    would.
    """
    order = torch.randperm(num, generator=torch.Generator().manual_seed(_SEED))
    if classes is not None:
        order = order[torch.argsort(classes[order], stable=True)]
    numbers = torch.empty(num, dtype=torch.int64)
    numbers[order] = torch.arange(num) % groups
    return numbers


@dataclass(frozen=True)
class Division:
    """N images in `groups` [N], as `group_numbers` gives them, and `classes` [N] whose numbers of images were chosen.

    Chosen numbers do not vary from one set of images to the next, so that leaving a group out must not vary them
    either: the images of a class that stay stand for those that go.
    """

    groups: Tensor
    classes: Tensor | None = None

    @classmethod
    def of(cls, num: int, classes: Tensor | None = None) -> Self:
        """Of `num` images; classes of fewer than 3 are taken together, so that none ever goes as a whole."""
        if classes is not None:
            numbers, counts = _counted(classes)
            classes = torch.where(counts[numbers] < _FEWEST, -1, numbers)
        return cls(group_numbers(num, classes), classes)

    def take(self, indices: Tensor) -> Self:
        """Of these images."""
        return type(self)(self.groups[indices], None if self.classes is None else self.classes[indices])

    def weights(self, left_out: tuple[int, ...]) -> Tensor:
        """What each image counts without those groups, float64 [N]; the sum is the number of images that stay."""
        stays = ~torch.isin(self.groups, torch.tensor(left_out, dtype=torch.int64))
        weights = stays.to(torch.float64)
        if self.classes is None or not left_out:
            return weights
        classes, counts = _counted(self.classes)
        staying = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, classes, weights)
        weights *= (counts / staying.clamp(min=1))[classes]
        return weights * (stays.sum() / weights.sum())


def _counted(classes: Tensor) -> tuple[Tensor, Tensor]:
    """Classes [N] numbered from 0, and how many images each has."""
    _, numbers, counts = torch.unique(classes, return_inverse=True, return_counts=True)
    return numbers, counts


def left_out_sets(groups: int = GROUPS) -> list[tuple[int, ...]]:
    """All that `intervals.jackknife` leaves out: nothing, each group, and each with the next."""
    return [(), *((g,) for g in range(groups)), *((g, (g + 1) % groups) for g in range(groups))]


@dataclass(frozen=True)
class Gaussian:
    """What a Fréchet distance is measured to: `mean` [D], `covariance` [D, D] and its symmetric `root`, float64."""

    mean: Tensor
    covariance: Tensor
    root: Tensor

    def distance(self, moments: Moments) -> float:
        """The Fréchet distance of rows with these moments."""
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
    """Of the Fréchet distance of `features` [N, D] to `reference`, which is taken as fixed: 41 distances."""
    division = division or Division.of(len(features))
    if division.classes is not None:
        return jackknife(lambda left_out: reference.distance(_weighted_moments(features, division.weights(left_out))))
    return moments_jackknife(group_moments(features, division), reference)


def moments_jackknife(groups: Sequence[Moments], reference: Gaussian) -> Jackknife:
    """Of the Fréchet distance to `reference` of all rows, from the moments of each group's."""
    total = _union(groups)

    def distance(left_out: tuple[int, ...]) -> float:
        moments = total
        for group in left_out:
            moments = moments.without(groups[group])
        return reference.distance(moments)

    return jackknife(distance)


def _weighted_moments(features: Tensor, weights: Tensor) -> Moments:
    """Of rows [N, D] that count as `weights` [N] say; as many rows as are not 0, which is the weights' sum.

    Only a block of rows is copied at a time: with thousands of dimensions a copy of all takes gigabytes.
    """
    found = Moments(features.shape[1])
    found.num = int(torch.count_nonzero(weights))
    blocks = list(zip(torch.split(features, _ROWS), torch.split(weights, _ROWS), strict=True))
    for rows, share in blocks:
        found.mean += share @ rows.to(torch.float64) / found.num
    for rows, share in blocks:
        centred = rows.to(torch.float64) - found.mean
        found.scatter += (centred * share[:, None]).T @ centred
    return found


class KernelSums:
    """The unbiased kernel distance of `x` [N, D] to `y` [M, D], which is taken as fixed, in one pass over all pairs.

    `y_self` is `kernel_self_mean(y)`.
    """

    def __init__(self, x: Tensor, y: Tensor, *, y_self: float, division: Division | None = None) -> None:
        x, y, division = x.to(torch.float64), y.to(torch.float64), division or Division.of(len(x))
        sets = left_out_sets()
        weights = torch.stack([division.weights(left_out) for left_out in sets], dim=1)  # [N, S]
        total, squares = weights.sum(dim=0), weights.square().sum(dim=0)
        within = weighted_kernel_sums(x, weights) / (total**2 - squares)
        across = weights.T @ kernel_row_means(x, y) / total
        self._distances = dict(zip(sets, (within + y_self - 2 * across).tolist(), strict=True))

    def distance(self, left_out: tuple[int, ...] = ()) -> float:
        """Of all images but those of these groups."""
        found: float = self._distances[left_out]
        return found

    def jackknife(self) -> Jackknife:
        """Of the distance."""
        return jackknife(self.distance)


def mean_jackknife(
    values: Tensor, statistic: Callable[[Tensor], float] = float, *, division: Division | None = None
) -> Jackknife:
    """Of `statistic` of the mean of `values` [N, ...] over the images; of the mean itself for values [N]."""
    division, values = division or Division.of(len(values)), values.to(torch.float64)

    def of_rest(left_out: tuple[int, ...]) -> float:
        weights = division.weights(left_out)
        mean: Tensor = torch.tensordot(weights, values, dims=1) / weights.sum()
        return float(statistic(mean))

    return jackknife(of_rest)


@dataclass(frozen=True)
class Extrapolation:
    """A fit `value` + slope/N to a distance; `residual` is the fit's root mean square, `nums` are the N fitted."""

    value: float
    residual: float
    nums: list[int]


def extrapolate(groups: Sequence[Moments], reference: Gaussian) -> Extrapolation:
    """The Fréchet distance at infinite N, by least squares in 1/N (Chong & Forsyth, 2020, arXiv 1911.07023).

    Subsamples are nested: half of the groups, and ever two more.
    """
    nums, distances = [], []
    for count in range(_FROM, len(groups) + 1, 2):
        subsample = _union(groups[:count])
        nums.append(subsample.num)
        distances.append(reference.distance(subsample))
    design = torch.stack([torch.ones(len(nums)), 1 / torch.tensor(nums, dtype=torch.float64)], dim=1)
    target = torch.tensor(distances, dtype=torch.float64)
    solution = torch.linalg.lstsq(design, target[:, None], driver="gelsd").solution[:, 0]
    residual = (design @ solution - target).square().mean().sqrt()
    return Extrapolation(float(solution[0]), float(residual), nums)


def _union(groups: Sequence[Moments]) -> Moments:
    total = Moments(len(groups[0].mean))
    for group in groups:
        total = total.merged(group)
    return total
