"""Metrics of colour shift, which need no network: how far the images' colours are from the real ones."""

import torch
from torch import Tensor

from debiasctl.evaluation.metrics.distances import frechet_distance, gaussian_moments


def mean_colours(images: Tensor) -> Tensor:
    """Each image's mean colour in [-1, 1], float64 [N, C], for uint8 [N, C, H, W]; exact for every batch size."""
    total = images.sum(dim=(2, 3), dtype=torch.int64).to(torch.float64)
    return total / (images.shape[2] * images.shape[3] * 127.5) - 1


def mean_squares(images: Tensor) -> Tensor:
    """Each image's mean squared pixel in [-1, 1], float64 [N, C], for uint8 [N, C, H, W]."""
    return (images.to(torch.float64) / 127.5 - 1).square().mean(dim=(2, 3))


def mean_shift(colours: Tensor, reference: Tensor) -> list[float]:
    """Each channel's mean over `colours` [N, C] minus that over `reference` [M, C], in units of [-1, 1]."""
    shift: list[float] = (colours.mean(dim=0) - reference.mean(dim=0)).tolist()
    return shift


def mean_shift_squared(colours: Tensor, reference: Tensor) -> float:
    """The squared mean shift, summed over channels."""
    return sum(shift**2 for shift in mean_shift(colours, reference))


def pixel_std(moments: Tensor) -> float:
    """The standard deviation of a channel's pixels over all images, from their mean and mean square [2]."""
    mean, square = moments.unbind(-1)
    return float((square - mean.square()).clamp(min=0).sqrt())


def colour_fd(colours: Tensor, reference: Tensor) -> float:
    """The Fréchet distance of mean colours [N, C] and [M, C]; unlike the mean shift it reflects their spread."""
    return frechet_distance(*gaussian_moments(colours), *gaussian_moments(reference))
