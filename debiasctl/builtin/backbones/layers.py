"""Building blocks of backbones: the embedding of the noise level, input checks, and the layers of ADM's U-Net."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from debiasctl.api import ImageShape
from debiasctl.builtin.backbones.winograd import Conv3x3


def timestep_embedding(noise_level: Tensor, dim: int, *, max_period: float = 10000.0) -> Tensor:
    """Embed t as [cos(t w_i), sin(t w_i)] with w_i = max_period^(-i/half), i = 0 … half - 1 (ADM, arXiv 2105.05233).

    `noise_level` is [N] and may be fractional; the result is [N, dim] in its precision, but at least float32, with a
    last column of zeros for an odd `dim`.
    """
    noise_level = noise_level.to(torch.promote_types(noise_level.dtype, torch.float32))
    half = dim // 2
    exponents = torch.arange(half, dtype=noise_level.dtype, device=noise_level.device) / half
    angles = noise_level[:, None] * torch.exp(-math.log(max_period) * exponents)
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    return functional.pad(embedding, (0, dim % 2))


def check_inputs(x: Tensor, noise_level: Tensor, labels: Tensor | None, *, shape: ImageShape, num_classes: int) -> None:
    """Check the inputs of a network that was built for `shape` and `num_classes`.

    Raises:
        ValueError: if a shape is wrong, labels are missing, or labels are given to a network without classes.
    """
    image = (shape.in_channels, shape.image_size, shape.image_size)
    if x.ndim != 4 or tuple(x.shape[1:]) != image:
        raise ValueError(f"x has shape {tuple(x.shape)}; this network takes [N, {image[0]}, {image[1]}, {image[2]}]")
    if noise_level.shape != x.shape[:1]:
        raise ValueError(f"noise_level has shape {tuple(noise_level.shape)}; it takes one value per image, [{len(x)}]")
    if labels is None:
        if num_classes > 0:
            raise ValueError(f"this network is conditional on {num_classes} classes: give labels, int64 [{len(x)}]")
    elif num_classes == 0:
        raise ValueError("labels were given to a network that was built without classes: leave them out")
    elif labels.shape != x.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; they take one class per image, [{len(x)}]")


class GroupNorm32(nn.GroupNorm):
    """Group norm computed in at least float32, regardless of its input's precision."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [N, C, ...], keeping its shape and dtype."""
        dtype = torch.promote_types(input.dtype, torch.float32)
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        return functional.group_norm(input.to(dtype), self.num_groups, weight, bias, self.eps).to(input.dtype)


class Downsample(nn.Module):
    """Halves the size by a strided convolution or by averaging."""

    def __init__(self, channels: int, *, conv: bool) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if conv else nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, H/2, W/2]."""
        out: Tensor = self.op(x)
        return out


class Upsample(nn.Module):
    """Doubles the size by repetition and, optionally, a convolution."""

    def __init__(self, channels: int, *, conv: bool) -> None:
        super().__init__()
        self.conv = Conv3x3(channels, channels) if conv else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, 2H, 2W]."""
        out: Tensor = self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return out


def zeroed(layer: nn.Module) -> nn.Module:
    """Set all parameters of a layer to zero, and return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class ResBlock(nn.Module):
    """A residual block conditioned on the time embedding, which may change the width and the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        embedding_channels: int,
        norm_groups: int,
        dropout: float,
        use_scale_shift_norm: bool,
        resample: Literal["up", "down"] | None = None,
    ) -> None:
        super().__init__()
        self.use_scale_shift_norm = use_scale_shift_norm
        self.in_layers = nn.Sequential(
            GroupNorm32(norm_groups, in_channels), nn.SiLU(), Conv3x3(in_channels, out_channels)
        )
        resamplers = {"up": Upsample, "down": Downsample}
        make = resamplers[resample] if resample else None
        self.h_upd = make(in_channels, conv=False) if make else nn.Identity()
        self.x_upd = make(in_channels, conv=False) if make else nn.Identity()
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(embedding_channels, (1 + use_scale_shift_norm) * out_channels)
        )
        self.out_layers = nn.Sequential(
            GroupNorm32(norm_groups, out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(Conv3x3(out_channels, out_channels)),
        )
        same = in_channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [N, C, H, W] and embedding [N, E] to [N, C', H', W']."""
        norm, activation, conv = self.in_layers
        h = conv(self.h_upd(activation(norm(x))))
        condition = self.emb_layers(embedding).to(h.dtype)[:, :, None, None]
        norm, activation, dropout, conv = self.out_layers
        if self.use_scale_shift_norm:
            scale, shift = condition.chunk(2, dim=1)
            h = torch.addcmul(shift, norm(h), 1 + scale)
        else:
            h = norm(h + condition)
        out: Tensor = self.skip_connection(self.x_upd(x)) + conv(dropout(activation(h)))
        return out


class AttentionBlock(nn.Module):
    """Self-attention among all positions of a level, added to its input."""

    def __init__(self, channels: int, *, num_heads: int, norm_groups: int, use_new_order: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.use_new_order = use_new_order
        self.norm = GroupNorm32(norm_groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        zeroed(self.proj_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        pixels = x.permute(0, 2, 3, 1)  # for a channels_last x, this and the tokens are views
        tokens = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)
        qkv = functional.linear(tokens, self.qkv.weight[:, :, 0], self.qkv.bias)  # [N, H W, 3 C]
        if self.use_new_order:
            q, k, v = qkv.view(*qkv.shape[:2], 3, self.num_heads, -1).unbind(2)
        else:  # the order of ADM's checkpoints: heads first, then q, k, v
            q, k, v = qkv.view(*qkv.shape[:2], self.num_heads, 3, -1).unbind(3)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)  # [N, heads, H W, C / heads]
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        added = functional.linear(mixed, self.proj_out.weight[:, :, 0], self.proj_out.bias)
        return (pixels + added.view(pixels.shape)).permute(0, 3, 1, 2)
