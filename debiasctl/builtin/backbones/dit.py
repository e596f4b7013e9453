"""DiT: a transformer over image patches, conditioned through adaptive layer norm."""

import math
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from debiasctl.api import Backbone, ImageShape, PluginOptions, UsageError
from debiasctl.builtin.backbones.layers import check_inputs, timestep_embedding

FREQUENCIES = 256
Preset = Literal["S/2", "S/4", "S/8", "B/2", "B/4", "B/8", "L/2", "L/4", "L/8", "XL/2", "XL/4", "XL/8"]
SIZES = {  # 2212.09748, Table 1: hidden_size, depth, num_heads
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "XL": (1152, 28, 16),
}


def preset_options(preset: str) -> dict[str, Any]:
    """The options of a published network, such as XL/2."""
    size, _, patch_size = preset.partition("/")
    hidden_size, depth, num_heads = SIZES[size]
    return {
        "patch_size": int(patch_size),
        "hidden_size": hidden_size,
        "depth": depth,
        "num_heads": num_heads,
        "pos_embed": "stored",
    }


class DiT(Backbone):
    """DiT, a transformer with adaLN-Zero, by default small enough for a CPU (Peebles & Xie, 2022, arXiv 2212.09748)."""

    class Options(PluginOptions):
        """A preset is a published network: preset=XL/2 is DiT-XL/2; options that are given beside it override it."""

        preset: Preset | None = Field(
            None,
            exclude=True,
            description="published network; it sets patch_size, hidden_size, depth, num_heads and pos_embed=stored, "
            "which are what a run stores",
        )
        patch_size: int | None = Field(
            None,
            ge=1,
            description="side of a patch in px, a divisor of the image size; "
            "unset: the divisor nearest to 2, or to a 16th of the image size if that is larger",
        )
        hidden_size: int = Field(128, ge=4, le=2**20, description="width; a multiple of 4 and of num_heads")
        depth: int = Field(6, ge=1, description="number of transformer blocks")
        num_heads: int = Field(4, ge=1, description="attention heads")
        mlp_ratio: float = Field(4.0, gt=0, le=2**20, description="width of a block's MLP relative to hidden_size")
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the outputs of attention and MLP")
        use_checkpoint: bool = Field(False, description="recompute activations in the backward pass, to save memory")
        pos_embed: Literal["computed", "stored"] = Field(
            "computed",
            description="the fixed sines and cosines of positions; stored: among the weights, as in published "
            "checkpoints; computed: made again whenever the network is",
        )

        @model_validator(mode="before")
        @classmethod
        def _filled_in(cls, data: Any) -> Any:
            """Put a preset's options in its place, below those that are given."""
            if not isinstance(data, Mapping) or not isinstance(data.get("preset"), str):
                return data
            preset = data["preset"].removeprefix("DiT-")
            if preset not in get_args(Preset):
                return data  # refused by its type, which lists the known names
            options = preset_options(preset)
            if options.keys() <= data.keys():
                raise ValueError(
                    f"preset {preset} has no effect, because every option of it is given beside it. Leave those out, "
                    f"or name the network with it alone: dit:preset={preset}"
                )
            return {**options, **data, "preset": None}

        @model_validator(mode="after")
        def _fits(self) -> Self:
            if self.hidden_size % 4 or self.hidden_size % self.num_heads:
                raise ValueError(
                    f"hidden_size {self.hidden_size} must be a multiple of 4 (its position embedding has four parts) "
                    f"and of num_heads {self.num_heads}"
                )
            return self

    options: Options

    @classmethod
    def resolve_options(cls, options: Options, shape: ImageShape) -> Options:
        """Choose a patch size that divides the image size, if none is given.

        Raises:
            UsageError: if the given patch size does not divide the image size.
        """
        size = shape.image_size
        divisors = [divisor for divisor in range(1, size + 1) if size % divisor == 0]
        if options.patch_size is None:
            target = max(2.0, size / 16)
            return options.model_copy(update={"patch_size": min(divisors, key=lambda d: abs(math.log(d / target)))})
        if options.patch_size not in divisors:
            raise UsageError(
                f"dit: patch_size {options.patch_size} does not divide the image size {size}. "
                f"Allowed: {', '.join(map(str, divisors))}"
            )
        return options

    def build(self, shape: ImageShape, num_classes: int) -> nn.Module:
        """Build a module with `forward(x, noise_level, labels=None)`, whose output is zero before training.

        Raises:
            UsageError: if the patch size does not divide the image size.
        """
        return DiTModel(self.resolve_options(self.options, shape), shape, num_classes=num_classes)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut [N, C, H, W] into tokens [N, (H/p)(W/p), p p C], row by row, each patch as (row, column, channel)."""
    n, channels, height, width = images.shape
    p = patch_size
    grid = images.reshape(n, channels, height // p, p, width // p, p)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(n, (height // p) * (width // p), p * p * channels)


def unpatchify(tokens: Tensor, patch_size: int) -> Tensor:
    """Reassemble square images from tokens, the inverse of `patchify`."""
    n, length, values = tokens.shape
    p, side = patch_size, math.isqrt(length)
    grid = tokens.reshape(n, side, side, p, p, values // p**2)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(n, values // p**2, side * p, side * p)


def position_embedding(side: int, dim: int) -> Tensor:
    """Fixed sines and cosines of a token's column (first half) and row, float32 [side², dim].

    Each half is [sin(k w_i), cos(k w_i)] with w_i = 10000^(-i/(dim/4)), as in DiT.
    """
    rates = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, dim / 2]
    rows = line[:, None].expand(side, side, -1)
    columns = line[None].expand(side, side, -1)
    return torch.cat([columns, rows], dim=2).reshape(side * side, dim).float()


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Scale x [N, L, D] by 1 + `scale` and shift it by `shift`, each [N, D]."""
    return x * (1 + scale[:, None]) + shift[:, None]


def _condition(hidden_size: int, parts: int) -> nn.Sequential:
    """The map from the conditioning vector to `parts` vectors, zero at the start (adaLN-Zero)."""
    linear = nn.Linear(hidden_size, parts * hidden_size)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.SiLU(), linear)


def _linear(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with Glorot-uniform weights and no bias at the start."""
    linear = nn.Linear(in_features, out_features)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


def _normal(in_features: int, out_features: int) -> nn.Linear:
    """A linear layer with weights of standard deviation 0.02 and no bias at the start."""
    linear = nn.Linear(in_features, out_features)
    nn.init.normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear


class Attention(nn.Module):
    """Multi-head self-attention over tokens [N, L, D]."""

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = _linear(hidden_size, 3 * hidden_size)
        self.proj = _linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [N, L, D] to the same shape."""
        n, length, width = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each [N, heads, L, D / heads]
        mixed = functional.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, length, width))
        return out


class Block(nn.Module):
    """A transformer block in which the condition shifts and scales the norms and gates the branches."""

    def __init__(self, options: DiT.Options) -> None:
        super().__init__()
        width = options.hidden_size
        inner = int(width * options.mlp_ratio)
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.attention = Attention(width, options.num_heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.mlp = nn.Sequential(_linear(width, inner), nn.GELU(approximate="tanh"), _linear(inner, width))
        self.dropout = nn.Dropout(options.dropout)
        self.adaln = _condition(width, 6)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map x [N, L, D] and condition [N, D] to [N, L, D]."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaln(condition).chunk(6, dim=1)
        x = x + gate1[:, None] * self.dropout(self.attention(modulate(self.norm1(x), shift1, scale1)))
        out: Tensor = x + gate2[:, None] * self.dropout(self.mlp(modulate(self.norm2(x), shift2, scale2)))
        return out


class DiTModel(nn.Module):
    """The network: patches with fixed position embeddings, blocks, and a final layer back to patches."""

    pos_embed: Tensor

    def __init__(self, options: DiT.Options, shape: ImageShape, *, num_classes: int) -> None:
        super().__init__()
        assert options.patch_size is not None
        self.shape, self.num_classes, self.patch_size = shape, num_classes, options.patch_size
        self.use_checkpoint = options.use_checkpoint
        width, area = options.hidden_size, options.patch_size**2
        self.patch_embed = _linear(area * shape.in_channels, width)
        positions = position_embedding(shape.image_size // options.patch_size, width)
        self.register_buffer("pos_embed", positions[None], persistent=options.pos_embed == "stored")
        self.time_embed = nn.Sequential(_normal(FREQUENCIES, width), nn.SiLU(), _normal(width, width))
        if num_classes > 0:
            self.label_embed = nn.Embedding(num_classes, width)
            nn.init.normal_(self.label_embed.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.depth))
        self.final_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.final_adaln = _condition(width, 2)
        self.final = nn.Linear(width, area * shape.out_channels)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map x [N, in_channels, H, W], noise_level [N] and labels (int64 [N] or None) to [N, out_channels, H, W]."""
        check_inputs(x, noise_level, labels, shape=self.shape, num_classes=self.num_classes)
        condition = self.time_embed(timestep_embedding(noise_level, FREQUENCIES).to(x.dtype))
        if labels is not None:
            condition = condition + self.label_embed(labels)
        tokens = self.patch_embed(patchify(x, self.patch_size)) + self.pos_embed
        for block in self.blocks:
            if self.use_checkpoint and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, condition, use_reentrant=False)
            else:
                tokens = block(tokens, condition)
        shift, scale = self.final_adaln(condition).chunk(2, dim=1)
        return unpatchify(self.final(modulate(self.final_norm(tokens), shift, scale)), self.patch_size)
