"""Preprocessing of images for the built-in extractors."""

import torch
from torch import Tensor


def model_space(images: Tensor, *, resolution: int, dtype: torch.dtype) -> Tensor:
    """Convert uint8 [N, C, H, W] to [-1, 1] in `dtype`, averaging larger images down to `resolution` pixels."""
    scaled = images.to(dtype) / 127.5 - 1
    if max(images.shape[-2:]) <= resolution:
        return scaled
    return torch.nn.functional.interpolate(scaled, size=(resolution, resolution), mode="area")
