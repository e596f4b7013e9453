"""Distances between two sets of features: Fréchet (between Gaussian fits) and kernel (unbiased MMD²), in float64."""

import math

import torch
from torch import Tensor

from debiasctl.errors import EvaluationError

_BLOCK = 2048  # rows and columns of a kernel block: 32 MiB in float64
_ROWS = 8192  # rows per batch of a moment computation


class Moments:
    """Number, mean [D] and scatter [D, D] (sum of outer products about the mean) of rows that come in batches.

    Batches are merged as in Chan, Golub & LeVeque (1979), so that a mean far from zero loses no precision. Memory does
    not grow with the number of rows.
    """

    def __init__(self, dimension: int) -> None:
        self.num = 0
        self.mean = torch.zeros(dimension, dtype=torch.float64)
        self.scatter = torch.zeros(dimension, dimension, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Add a batch [N, D].

        Raises:
            EvaluationError: if it has another shape, or a value that is not finite.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise EvaluationError(f"features must be [N, {len(self.mean)}], not {_shape(features)}")
        for rows in torch.split(features, _ROWS):
            batch = _finite(rows.to(device="cpu", dtype=torch.float64))
            if len(batch):
                mean = batch.mean(dim=0)
                centred = batch - mean
                self._merge(len(batch), mean, centred.T @ centred, sign=1)

    def merged(self, other: "Moments") -> "Moments":
        """The moments of the rows of both."""
        return self._combined(other, sign=1)

    def without(self, other: "Moments") -> "Moments":
        """The moments of these rows without those of `other`, which are a subset of them."""
        return self._combined(other, sign=-1)

    def covariance(self) -> Tensor:
        """The unbiased covariance [D, D].

        Raises:
            EvaluationError: if there are fewer than 2 rows.
        """
        if self.num < 2:
            raise EvaluationError(f"a distance needs at least 2 images on each side, not {self.num}")
        return self.scatter / (self.num - 1)

    def _combined(self, other: "Moments", *, sign: int) -> "Moments":
        both = Moments(len(self.mean))
        both.num, both.mean, both.scatter = self.num, self.mean, self.scatter.clone()
        both._merge(other.num, other.mean, other.scatter, sign=sign)
        return both

    def _merge(self, num: int, mean: Tensor, scatter: Tensor, *, sign: int) -> None:
        total = self.num + sign * num
        if total == 0:
            self.num, self.mean, self.scatter = 0, torch.zeros_like(self.mean), torch.zeros_like(self.scatter)
            return
        delta = mean - self.mean
        self.scatter += sign * (scatter + torch.outer(delta, delta) * (self.num * num / total))
        self.mean = self.mean + sign * delta * (num / total)
        self.num = total


def gaussian_moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """The mean [D] and unbiased covariance [D, D], float64, of `features` [N, D].

    Raises:
        EvaluationError: if `features` is not two-dimensional, has fewer than 2 rows, or a value that is not finite.
    """
    moments = Moments(_checked(features).shape[1])
    moments.add(features)
    return moments.mean, moments.covariance()


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor, *, root2: Tensor | None = None) -> float:
    """The squared 2-Wasserstein distance of two Gaussians (Dowson & Landau, 1982; as FID, Heusel et al., 2017).

        |mean1 - mean2|² + Tr(S1 + S2 - 2 (S1^½ S2 S1^½)^½)

    The last trace is the sum of the singular values of S2^½ L for any L L^T = S1. They are not computed as roots of
    eigenvalues, because a small eigenvalue, as a square, would lose half of its digits. `root2` is
    `covariance_root(cov2)` if it is known already, which halves the time.

    Raises:
        EvaluationError: if shapes do not fit, a value is not finite, or a matrix is not a covariance.
    """
    mean1, cov1, mean2, cov2 = (tensor.to(torch.float64) for tensor in (mean1, cov1, mean2, cov2))
    dimension = mean1.numel()
    if mean1.shape != (dimension,) or mean2.shape != mean1.shape:
        raise EvaluationError(f"two means of one length are needed, not {_shape(mean1)} and {_shape(mean2)}")
    if cov1.shape != (dimension, dimension) or cov2.shape != cov1.shape:
        raise EvaluationError(
            f"two {dimension}x{dimension} covariances are needed, not {_shape(cov1)} and {_shape(cov2)}"
        )
    if not all(tensor.isfinite().all() for tensor in (mean1, cov1, mean2, cov2)):
        raise EvaluationError("a Fréchet distance needs finite means and covariances; these hold NaN or infinity")
    root = covariance_root(cov2) if root2 is None else root2
    overlap = torch.linalg.svdvals(root @ _factor(cov1)).sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * overlap
    return max(0.0, float(distance))  # it is never negative but for rounding


def _factor(covariance: Tensor) -> Tensor:
    """Some L with L L^T = `covariance`: the Cholesky factor, or the root if rounding dominates the last pivots."""
    lower, info = torch.linalg.cholesky_ex((covariance + covariance.T) / 2)
    pivots = lower.diagonal().square()
    noise = covariance.diagonal().max() * len(covariance) * torch.finfo(torch.float64).eps
    factor: Tensor = covariance_root(covariance) if info.item() or pivots.min() <= noise else lower
    return factor


def covariance_root(covariance: Tensor) -> Tensor:
    """The symmetric square root [D, D] of a positive semidefinite matrix, float64.

    Raises:
        EvaluationError: if an eigenvalue is clearly negative.
    """
    covariance = covariance.to(torch.float64)
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    largest = values.abs().max()
    if values.min() < -1e-6 * largest:
        raise EvaluationError(
            f"a covariance cannot have a negative eigenvalue: {values.min().item():.3g} (largest: {largest.item():.3g})"
        )
    # Eigenvalues below the rounding of eigh count as zero: their roots, 1e-8 of the scale, would not be negligible.
    noise = largest * values.numel() * torch.finfo(torch.float64).eps
    root: Tensor = vectors * values.where(values > noise, 0).sqrt() @ vectors.T
    return root


def kernel_self_mean(x: Tensor, classes: Tensor | None = None) -> float:
    """The mean of k(x_i, x_j) over all i != j, for `x` [N, D] and the cubic kernel k(a, b) = (a.b / D + 1)³.

    With `classes` [N] pairs of one class count for those that an image would make with itself, so that each class has
    its share of pairs: where class counts are even, or chosen, the plain mean has too few of them, and is too low.
    All classes with a single image are merged.

    Raises:
        EvaluationError: if `x` is not two-dimensional, has fewer than 2 rows, or a value that is not finite.
    """
    x = _checked(x)
    num = len(x)
    if classes is None:
        return kernel_self_sum(x) / (num * (num - 1))
    numbers = merged_singles(classes)
    within = [x[numbers == number] for number in range(int(numbers.max()) + 1)]
    if any(len(rows) < 2 for rows in within):  # one class with a single image
        return kernel_self_sum(x) / (num * (num - 1))
    return (kernel_self_sum(x) + math.fsum(kernel_self_sum(rows) / (len(rows) - 1) for rows in within)) / num**2


def merged_singles(classes: Tensor) -> Tensor:
    """Number the classes [N] from 0, with all those that have a single image as one."""
    _, numbers, counts = torch.unique(classes, return_inverse=True, return_counts=True)
    merged: Tensor = torch.unique(torch.where(counts[numbers] < 2, -1, numbers), return_inverse=True)[1]
    return merged


def kernel_self_sum(x: Tensor) -> float:
    """The sum of k(x_i, x_j) over all i != j, for float64 `x` [N, D]."""
    sums = []
    blocks = torch.split(x, _BLOCK)
    for position, rows in enumerate(blocks):
        own = _kernel(rows, rows)
        sums.append((own.sum() - own.diagonal().sum()).item())
        sums.extend(2 * _kernel(rows, columns).sum().item() for columns in blocks[position + 1 :])
    return math.fsum(sums)


def kernel_row_means(x: Tensor, y: Tensor) -> Tensor:
    """The mean of k(x_i, y_j) over all j, [N], for float64 `x` [N, D] and `y` [M, D]."""
    found = torch.zeros(len(x), dtype=torch.float64)
    for rows, sums in zip(torch.split(x, _BLOCK), torch.split(found, _BLOCK), strict=True):
        for columns in torch.split(y, _BLOCK):
            sums += _kernel(rows, columns).sum(dim=1)
    return found / len(y)


def weighted_kernel_sums(x: Tensor, weights: Tensor) -> Tensor:
    """The sums [S] of w_i w_j k(x_i, x_j) over all i != j, for float64 `x` [N, D] and S sets of weights [N, S]."""
    found = x.new_zeros(weights.shape[1])
    rows, parts = torch.split(x, _BLOCK), torch.split(weights, _BLOCK)
    for i in range(len(rows)):
        for j in range(i + 1):
            kernel = _kernel(rows[i], rows[j])
            if i == j:
                kernel.fill_diagonal_(0)
            found += (1 if i == j else 2) * (parts[i] * (kernel @ parts[j])).sum(dim=0)
    return found


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    base = torch.addmm(x.new_ones(()), x, y.T, alpha=1 / x.shape[1])
    return base * base * base


def _checked(features: Tensor) -> Tensor:
    if features.ndim != 2 or features.shape[1] == 0:
        raise EvaluationError(f"features must be [N, D], not {_shape(features)}")
    if features.shape[0] < 2:
        raise EvaluationError(f"a distance needs at least 2 images on each side, not {features.shape[0]}")
    return _finite(features.to(torch.float64))


def _finite(features: Tensor) -> Tensor:
    if not features.isfinite().all():
        raise EvaluationError("the features hold NaN or infinity: the feature extractor is broken")
    return features


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
