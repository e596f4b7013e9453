"""Confidence limits of a kernel distance, the squared length of a difference of two means in the kernel's space."""

import torch
from torch import Tensor

from debiasctl.evaluation.metrics.distances import kernel_row_means
from debiasctl.evaluation.uncertainty.jackknife import Division
from debiasctl.evaluation.uncertainty.squared_length import squared_distance_limits

_LANDMARKS = 500  # images that span the directions
_DIRECTIONS = 40  # with the most noise
_ROWS = 8192
_IMPOSSIBLE = 1e-3  # of an independent sample: probability of so small an estimate


def kernel_limits(x: Tensor, y: Tensor, distance: float, *, division: Division) -> tuple[float, float] | None:
    """The 95 % limits of the kernel distance of `x` [N, D] to a fixed `y` [M, D]; `distance` is free of the bias.

    None if it lies further below 0 than that of an independent sample ever does.
    """
    x, y = x.to(torch.float64), y.to(torch.float64)
    landmarks = x[division.subset(min(len(x), _LANDMARKS))]
    kernel = _kernel(landmarks, landmarks)
    rows = kernel.mean(dim=1)
    values, vectors = torch.linalg.eigh(kernel - rows - rows[:, None] + rows.mean())
    found = values[-_DIRECTIONS:] > 1e-9 * values[-1]
    if not found.any():
        return None
    directions = (vectors[:, -_DIRECTIONS:] / values[-_DIRECTIONS:].clamp(min=1e-300).sqrt())[:, found]
    along = torch.cat([_kernel(part, landmarks) @ directions for part in torch.split(x, _ROWS)])
    mean = along.mean(dim=0) - kernel_row_means(landmarks, y) @ directions
    covariance = division.covariance_of_mean(along)
    low, high, none = squared_distance_limits(distance, mean.numpy(), covariance.numpy())
    return None if none < _IMPOSSIBLE else (float(low), float(high))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    found: Tensor = (x @ y.T / x.shape[1] + 1) ** 3
    return found
