"""How the built-in extractors see images."""

import torch
from torch import Tensor


def model_space(images: Tensor, *, resolution: int, dtype: torch.dtype) -> Tensor:
    """uint8 [N, C, H, W] to [-1, 1] in `dtype`, averaged over areas down to `resolution` pixels where larger."""
    scaled = images.to(dtype) / 127.5 - 1
    if max(images.shape[-2:]) <= resolution:
        return scaled
    return torch.nn.functional.interpolate(scaled, size=(resolution, resolution), mode="area")
