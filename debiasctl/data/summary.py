"""Facts about a data set's images that take reading all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, Split, spread_indices
from debiasctl.data.pixels import as_measured

_CHUNK = 256


@dataclass(frozen=True)
class PixelMoments:
    """The mean and standard deviation of each channel over all pixels of the training images, of values in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def pixel_moments(split: Split, *, progress: Callable[[int, int], None]) -> PixelMoments:
    """Compute them in float64, reading the images part by part; `progress` is called with images done and all."""
    count, total, squares = 0, torch.zeros(0), torch.zeros(0)
    for start in range(0, len(split), _CHUNK):
        values = _in_unit_interval(split.images(torch.arange(start, min(start + _CHUNK, len(split)))))
        sums = values.sum((0, 2, 3)), values.square().sum((0, 2, 3))
        total, squares = sums if not count else (total + sums[0], squares + sums[1])
        count += values.numel() // values.shape[1]
        progress(min(start + _CHUNK, len(split)), len(split))
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return PixelMoments(tuple(mean.tolist()), tuple(std.tolist()))


def class_counts(split: Split, num_classes: int) -> tuple[int, ...]:
    """The number of images of each class; empty without classes."""
    if not num_classes:
        return ()
    labels = split.labels(torch.arange(len(split)))
    assert labels is not None, "a data set with classes has labels"
    return tuple(torch.bincount(labels, minlength=num_classes).tolist())


def spread_images(data: LoadedDataset, num_images: int) -> tuple[Tensor, Tensor | None]:
    """Up to `num_images` training images, uint8 [N, C, H, W], evenly spread over the set, and their labels."""
    indices = spread_indices(len(data.train), num_images)
    train = as_measured(data).train
    return train.images(indices), train.labels(indices)


def _in_unit_interval(images: Tensor) -> Tensor:
    """Values in [0, 1], float64."""
    wide = images.to(torch.float64)
    return wide / 255 if images.dtype == torch.uint8 else (wide.clamp(-1, 1) + 1) / 2
