"""Pixels as a network sees them, and back."""

import torch
from torch import Tensor


def to_model_space(images: Tensor) -> Tensor:
    """uint8 [N, C, H, W] to float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float [N, C, H, W] in about [-1, 1] to uint8, rounded to the nearest level."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
