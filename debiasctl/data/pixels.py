"""Conversion between pixels and model space."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, Split


def to_model_space(images: Tensor) -> Tensor:
    """Map uint8 [N, C, H, W] to float32 in [-1, 1]; float32 images are returned as they are."""
    return images.to(torch.float32) / 127.5 - 1 if images.dtype == torch.uint8 else images


def to_uint8(images: Tensor) -> Tensor:
    """Map float [N, C, H, W], clipped to [-1, 1], to uint8, rounded to the nearest level."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def as_measured(data: LoadedDataset) -> LoadedDataset:
    """The data set as evaluation uses it, with float32 images rounded to the 256 levels that samples are stored in."""
    if data.info.value_type == "uint8":
        return data
    info = dataclasses.replace(data.info, value_type="uint8")
    return dataclasses.replace(data, info=info, train=_Rounded(data.train), heldout=_Rounded(data.heldout))


@dataclass(frozen=True)
class _Rounded:
    """A split of float32 images converted to uint8."""

    split: Split

    def __len__(self) -> int:
        return len(self.split)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices`, uint8 [N, C, H, W]."""
        return to_uint8(self.split.images(indices))

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return self.split.labels(indices)
