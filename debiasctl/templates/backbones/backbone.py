"""A backbone."""

import math

import torch
from debiasctl.api import Backbone, ImageShape, PluginOptions
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional


class ConvNet(nn.Module):
    """Residual convolutions at full resolution; noise level and class scale and shift the channels of each block."""

    def __init__(self, shape: ImageShape, num_classes: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.width = width
        self.embed_level = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_class = nn.Embedding(num_classes, width) if num_classes else None
        self.first = nn.Conv2d(shape.in_channels, width, kernel_size=3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(1, width, affine=False) for _ in range(depth))
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, kernel_size=3, padding=1) for _ in range(depth))
        self.last = nn.Conv2d(width, shape.out_channels, kernel_size=3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return F(x, noise_level, labels), float [N, out_channels, H, W], for x [N, in_channels, H, W]."""
        condition = self.embed_level(sinusoids(noise_level, self.width).to(x.dtype))
        if self.embed_class is not None and labels is not None:
            condition = condition + self.embed_class(labels)
        x = self.first(x)
        for norm, modulation, convolution in zip(self.norms, self.modulations, self.convolutions, strict=True):
            scale, shift = modulation(condition)[:, :, None, None].chunk(2, dim=1)  # [N, width, 1, 1] each
            x = x + convolution(functional.silu(norm(x) * (1 + scale) + shift))
        output: Tensor = self.last(x)
        return output


def sinusoids(noise_level: Tensor, width: int) -> Tensor:
    """Embed noise levels [N] as cosines and sines [N, width] of geometrically spaced frequencies (arXiv 1706.03762)."""
    half = width // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=noise_level.device) / half)
    angles = noise_level[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class MyBackbone(Backbone):
    """A small residual network of convolutions, which sees 2 depth + 5 pixels across."""

    class Options(PluginOptions):
        """The options of the network."""

        width: int = Field(64, ge=2, le=4096, multiple_of=2, description="channels, an even number")
        depth: int = Field(8, ge=1, le=100, description="residual blocks")

    options: Options

    def build(self, shape: ImageShape, num_classes: int) -> nn.Module:
        """Build the network; its output is 0 until it is trained."""
        return ConvNet(shape, num_classes, width=self.options.width, depth=self.options.depth)
