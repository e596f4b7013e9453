"""Splits of images in memory or on disk as one array, brought to a size and a number of channels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from debiasctl.api import ArraySplit, Split
from debiasctl.builtin.datasets._support.decoded_images import MAX_DECODED_BYTES
from debiasctl.builtin.datasets._support.image_decoding import resized


@dataclass(frozen=True)
class ResizingSplit:
    """A split whose images are resized at every read: `array` uint8 [N, C, H, W], `targets` int64 [N] or None."""

    array: npt.NDArray[np.uint8]
    targets: Tensor | None
    image_size: int
    channels: int

    def __len__(self) -> int:
        return len(self.array)

    def images(self, indices: Tensor) -> Tensor:
        """Resize the images at `indices`, uint8 [N, C, size, size]."""
        pixels = torch.empty(len(indices), self.channels, self.image_size, self.image_size, dtype=torch.uint8)
        for row, index in zip(pixels.numpy(), indices.tolist(), strict=True):
            row[...] = resized(self.array[index], size=self.image_size, channels=self.channels)
        return pixels

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


def brought_to(array: npt.NDArray[np.uint8], targets: Tensor | None, *, image_size: int, channels: int) -> Split:
    """The images as they are if they have this size; otherwise resized, at once if they fit into memory."""
    if array.shape[1:] == (channels, image_size, image_size):
        return ArraySplit(torch.from_numpy(array), targets)
    split = ResizingSplit(array, targets, image_size, channels)
    if len(array) * channels * image_size**2 > MAX_DECODED_BYTES:
        return split
    return ArraySplit(split.images(torch.arange(len(array))), targets)
