"""The parts of a vision transformer that CLIP and DINOv2 need (Dosovitskiy et al., 2021)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Block:
    """A pre-norm block. If given, `scale1` and `scale2` [D] multiply its two branches (LayerScale)."""

    norm1: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    proj: tuple[Tensor, Tensor]
    norm2: tuple[Tensor, Tensor]
    fc1: tuple[Tensor, Tensor]
    fc2: tuple[Tensor, Tensor]
    scale1: Tensor | None = None
    scale2: Tensor | None = None


def run_block(x: Tensor, block: Block, *, num_heads: int, eps: float, quick_gelu: bool) -> Tensor:
    """Run x [N, T, D] through attention and the two-layer network, each with a residual connection."""
    width = x.shape[-1]
    qkv = F.linear(F.layer_norm(x, (width,), *block.norm1, eps), *block.qkv)
    q, k, v = qkv.view(*x.shape[:2], 3, num_heads, width // num_heads).permute(2, 0, 3, 1, 4)
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    branch = F.linear(attended, *block.proj)
    x = x + (branch if block.scale1 is None else branch * block.scale1)
    hidden = F.linear(F.layer_norm(x, (width,), *block.norm2, eps), *block.fc1)
    hidden = hidden * torch.sigmoid(1.702 * hidden) if quick_gelu else F.gelu(hidden)
    branch = F.linear(hidden, *block.fc2)
    return x + (branch if block.scale2 is None else branch * block.scale2)


def pair(weights: Weights, name: str, *, separator: str = ".") -> tuple[Tensor, Tensor]:
    """The weight and the bias of a layer."""
    return weights[f"{name}{separator}weight"], weights[f"{name}{separator}bias"]


def embed(x: Tensor, weight: Tensor, bias: Tensor | None, *, token: Tensor, positions: Tensor) -> Tensor:
    """Embed patches of x [N, 3, H, W] as tokens after a class token [D], and add positions [T, D]: [N, T, D]."""
    patches = F.conv2d(x, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)
    return torch.cat([token.expand(len(x), 1, -1), patches], dim=1) + positions
