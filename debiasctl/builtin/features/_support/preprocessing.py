"""How the built-in extractors see images."""

import os

import torch
from torch import Tensor


def model_space(images: Tensor, *, resolution: int, dtype: torch.dtype) -> Tensor:
    """uint8 [N, C, H, W] to [-1, 1] in `dtype`, averaged over areas down to `resolution` pixels where larger."""
    scaled = images.to(dtype) / 127.5 - 1
    if max(images.shape[-2:]) <= resolution:
        return scaled
    return torch.nn.functional.interpolate(scaled, size=(resolution, resolution), mode="area")


def num_threads() -> int:
    """How many threads resize: the cores that this process may use, up to 16."""
    if hasattr(os, "sched_getaffinity"):
        return min(16, len(os.sched_getaffinity(0)))
    return min(16, os.cpu_count() or 1)
