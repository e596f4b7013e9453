"""The blocks of EDM2's U-Net (arXiv 2312.02696, configuration G)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from debiasctl_edm2.magnitude import Conv, Linear, mp_silu, mp_sum, pixel_norm


@dataclass(frozen=True)
class Settings:
    """What all blocks share: the embedding's width, balances of sums, dropout, and the bound on activations."""

    embedding_channels: int
    residual_balance: float
    attention_balance: float
    dropout: float
    activation_clip: float | None


class Residual(nn.Module):
    """Two convolutions, between which the embedding scales the channels by 1 + gain · linear(embedding)."""

    def __init__(self, in_channels: int, out_channels: int, settings: Settings) -> None:
        super().__init__()
        self.conv_in = Conv(in_channels, out_channels, 3)
        self.embedding = Linear(settings.embedding_channels, out_channels)
        self.embedding_gain = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(settings.dropout)
        self.conv_out = Conv(out_channels, out_channels, 3)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [N, C, H, W] and embedding [N, E] to [N, C', H, W]."""
        scale = 1 + self.embedding(embedding, self.embedding_gain)
        y = self.conv_in(mp_silu(x)) * scale[:, :, None, None]
        out: Tensor = self.conv_out(self.dropout(mp_silu(y)))
        return out


class CosineAttention(nn.Module):
    """Self-attention among all positions, with queries, keys and values of unit magnitude."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = Linear(channels, 3 * channels)
        self.out = Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        n, channels, height, width = x.shape
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2)  # views, for a channels-last x
        heads = self.qkv(tokens).view(n, height * width, 3, self.num_heads, -1)
        q, k, v = pixel_norm(heads, dim=-1).permute(2, 0, 3, 1, 4)  # each [N, heads, H W, C / heads]
        mixed = functional.scaled_dot_product_attention(q, k, v)  # softmax(q k^T / √(C / heads)) v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out.view(n, height, width, channels).permute(0, 3, 1, 2)


class Block(nn.Module):
    """What encoder and decoder blocks have in common: a residual branch, a skip path, and perhaps attention."""

    def __init__(self, in_channels: int, out_channels: int, settings: Settings, *, num_heads: int) -> None:
        super().__init__()
        self.settings = settings
        self.skip = nn.Identity() if in_channels == out_channels else Conv(in_channels, out_channels, 1)
        self.attention = CosineAttention(out_channels, num_heads) if num_heads else None

    def finish(self, x: Tensor) -> Tensor:
        """Add attention, and bound what half precision could not hold."""
        if self.attention is not None:
            x = mp_sum(x, self.attention(x), self.settings.attention_balance)
        bound = self.settings.activation_clip
        return x if bound is None else x.clamp(-bound, bound)


class EncoderBlock(Block):
    """A block of the way down, whose main path is normalised at each pixel; with `down` it first halves the size."""

    def __init__(
        self, in_channels: int, out_channels: int, settings: Settings, *, num_heads: int = 0, down: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, settings, num_heads=num_heads)
        self.down = down
        self.residual = Residual(out_channels, out_channels, settings)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [N, C, H, W] and embedding [N, E] to [N, C', H', W']."""
        if self.down:
            x = functional.avg_pool2d(x, 2)
        x = pixel_norm(self.skip(x), dim=1)
        return self.finish(mp_sum(x, self.residual(x, embedding), self.settings.residual_balance))


class DecoderBlock(Block):
    """A block of the middle or the way up; with `up` it first doubles the size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        settings: Settings,
        *,
        num_heads: int = 0,
        up: bool = False,
        takes_skip: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, settings, num_heads=num_heads)
        self.up, self.takes_skip = up, takes_skip
        self.residual = Residual(in_channels, out_channels, settings)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [N, C, H, W] and embedding [N, E] to [N, C', H', W']."""
        if self.up:
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.finish(mp_sum(self.skip(x), self.residual(x, embedding), self.settings.residual_balance))
