"""The jackknife of each metric over one division of the images into groups; the Fréchet distance's law in N."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.evaluation.distances import Moments, frechet_distance, kernel_self_sum, kernel_sum
from debiasctl.evaluation.intervals import GROUPS, Jackknife, jackknife

_SEED = 0  # of the division: one for all sets of images, so that those of one number are divided alike
_FROM = GROUPS // 2  # the fit in 1/N starts at half of the images


def group_numbers(num: int, *, groups: int = GROUPS) -> Tensor:
    """The group of each of `num` images, int64 [num]: a random division that is the same for every set of `num`.

    Groups differ by at most one image. Neither images sorted by class nor classes that take turns make groups of one
    class, as groups of consecutive images or of every 20th would.
    """
    order = torch.randperm(num, generator=torch.Generator().manual_seed(_SEED))
    numbers = torch.empty(num, dtype=torch.int64)
    numbers[order] = torch.arange(num) % groups
    return numbers


def grouped(rows: Tensor, *, groups: int = GROUPS) -> list[Tensor]:
    """The rows [N, ...] of each group."""
    numbers = group_numbers(len(rows), groups=groups)
    return [rows[numbers == group] for group in range(groups)]


@dataclass(frozen=True)
class Gaussian:
    """What a Fréchet distance is measured to: `mean` [D], `covariance` [D, D] and its symmetric `root`, float64."""

    mean: Tensor
    covariance: Tensor
    root: Tensor

    def distance(self, moments: Moments) -> float:
        """The Fréchet distance of rows with these moments."""
        return frechet_distance(moments.mean, moments.covariance(), self.mean, self.covariance, root2=self.root)


def group_moments(features: Tensor) -> list[Moments]:
    """The moments of each group's rows of `features` [N, D]."""
    found = []
    for rows in grouped(features):
        moments = Moments(features.shape[1])
        moments.add(rows)
        found.append(moments)
    return found


def frechet_jackknife(groups: Sequence[Moments], reference: Gaussian) -> Jackknife:
    """Of the Fréchet distance to `reference`, which is taken as fixed: two distances a group, and one of all images."""
    total = _union(groups)

    def distance(left_out: tuple[int, ...]) -> float:
        moments = total
        for group in left_out:
            moments = moments.without(groups[group])
        return reference.distance(moments)

    return jackknife(distance, groups=len(groups))


class KernelSums:
    """The unbiased kernel distance of `x` [N, D] to `y` [M, D], which is taken as fixed, in one pass over all pairs.

    `y_self` is `kernel_self_mean(y)`.
    """

    def __init__(self, x: Tensor, y: Tensor, *, y_self: float) -> None:
        parts = [part.to(torch.float64) for part in grouped(x)]
        y = y.to(torch.float64)
        self._y_self, self._num_y = y_self, len(y)
        self._counts = torch.tensor([len(part) for part in parts], dtype=torch.float64)
        self._across = torch.tensor([kernel_sum(part, y) for part in parts], dtype=torch.float64)
        self._within = torch.zeros(len(parts), len(parts), dtype=torch.float64)
        for i, part in enumerate(parts):
            self._within[i, i] = kernel_self_sum(part)
            for j in range(i):
                self._within[i, j] = self._within[j, i] = kernel_sum(part, parts[j])

    def distance(self, left_out: tuple[int, ...] = ()) -> float:
        """Of all images but those of these groups."""
        kept = torch.ones_like(self._counts)
        kept[list(left_out)] = 0
        num = kept @ self._counts
        own = kept @ self._within @ kept / (num * (num - 1))
        return float(own + self._y_self - 2 * (kept @ self._across) / (num * self._num_y))

    def jackknife(self) -> Jackknife:
        """Of the distance."""
        return jackknife(self.distance)


def mean_jackknife(values: Tensor, statistic: Callable[[Tensor], float] = float) -> Jackknife:
    """Of `statistic` of the mean of `values` [N, ...] over the images; of the mean itself for values [N]."""
    parts = grouped(values.to(torch.float64))
    sums = [part.sum(dim=0) for part in parts]
    total = torch.stack(sums).sum(dim=0)

    def of_rest(left_out: tuple[int, ...]) -> float:
        num = len(values) - sum(len(parts[group]) for group in left_out)
        return statistic((total - sum(sums[group] for group in left_out)) / num)

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
