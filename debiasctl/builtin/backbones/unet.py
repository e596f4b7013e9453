"""The U-Net of ADM (guided diffusion), with the parameter names, shapes and meanings of its public checkpoints."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from debiasctl.api import Backbone, ImageShape, PluginOptions, UsageError
from debiasctl.builtin.backbones.layers import (
    AttentionBlock,
    Downsample,
    GroupNorm32,
    ResBlock,
    Upsample,
    check_inputs,
    timestep_embedding,
    zeroed,
)
from debiasctl.builtin.backbones.unet_presets import PRESETS, Preset

# ADM's channel multipliers for its published image sizes; sizes in between take those of the next smaller one.
CHANNEL_MULT = {
    512: (0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0),
    256: (1.0, 1.0, 2.0, 2.0, 4.0, 4.0),
    128: (1.0, 1.0, 2.0, 3.0, 4.0),
    64: (1.0, 2.0, 3.0, 4.0),
    1: (1.0, 2.0, 2.0, 2.0),
}
SMALLEST_LEVEL = 4  # px; by default no level is smaller than this
ATTENTION_RESOLUTION = 16
HEAD_CHANNELS = 64
_MOST_CHANNELS = 4096  # looked through for advice


class UNet(Backbone):
    """The ADM U-Net, by default as the paper trains it (Dhariwal & Nichol, 2021, arXiv 2105.05233).

    With classes (`model.conditional=true`) it has a table of them, `label_emb.weight` in the family's checkpoints. With
    `model.label_dropout`, the last row stands for no class.
    """

    class Options(PluginOptions):
        """The U-Net's options; those left unset depend on the image size, and those of a preset are a published one's.

        Options that are given beside a preset override it. A run stores what the preset sets.
        """

        preset: Preset | None = Field(
            None, exclude=True, description="published network, which sets widths, blocks, attention and heads"
        )
        channels: int = Field(128, ge=2, le=2**20, description="width that channel_mult multiplies")
        channel_mult: tuple[Annotated[float, Field(gt=0, le=2**20)], ...] | None = Field(
            None,
            min_length=1,
            max_length=16,
            description="width of each level relative to channels, each level half the size of the one before; "
            "unset: ADM's for the image size, with as many levels as halve to 4 px or more",
        )
        num_res_blocks: int = Field(1, ge=1, description="residual blocks per level")
        attention_resolutions: tuple[PositiveInt, ...] | None = Field(
            None,
            description="sizes in px of the levels with attention, [] for only the middle block; "
            "unset: the largest level of at most 16 px",
        )
        num_heads: int | None = Field(None, ge=1, description="attention heads, instead of num_head_channels")
        num_head_channels: int | None = Field(
            None,
            ge=1,
            description="channels per head; if num_heads is unset too: 64 or its largest divisor that fits",
        )
        resblock_updown: bool = Field(True, description="change the size inside residual blocks")
        conv_resample: bool = Field(True, description="change the size by convolutions if resblock_updown is false")
        use_scale_shift_norm: bool = Field(
            True, description="the time embedding scales and shifts norms, else it is added"
        )
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the residual blocks")
        norm_groups: int = Field(32, ge=1, le=2**20, description="groups of the group norms, a divisor of every width")
        use_new_attention_order: bool = Field(False, description="order of qkv: q, k, v first and heads second")
        use_checkpoint: bool = Field(False, description="recompute activations in the backward pass, to save memory")

        @model_validator(mode="before")
        @classmethod
        def _filled_in(cls, data: Any) -> Any:
            """Put a preset's options below those that are given."""
            name = data.get("preset") if isinstance(data, Mapping) else None
            published = PRESETS.get(name) if isinstance(name, str) else None  # type: ignore[call-overload]
            if published is None:
                return data  # an unknown name is refused by its type, which lists the known ones
            given = {name: value for name, value in data.items() if name != "preset"}
            heads = {} if {"num_heads", "num_head_channels"} & given.keys() else published.heads
            return {**published.options, **heads, **given}

        @model_validator(mode="after")
        def _has_effect(self) -> Self:
            if self.num_heads is not None and self.num_head_channels is not None:
                raise ValueError("num_heads and num_head_channels determine one another: give only one of them")
            if self.resblock_updown and not self.conv_resample:
                raise ValueError("conv_resample=false has an effect only with resblock_updown=false")
            return self

    options: Options

    @classmethod
    def resolve_options(cls, options: Options, shape: ImageShape) -> Options:
        """Fill in the options that depend on the image size.

        Raises:
            UsageError: if levels, widths, attention or heads do not fit the image or one another.
        """
        mult = options.channel_mult or default_channel_mult(shape.image_size)
        resolutions = _resolutions(shape.image_size, mult)
        attention = options.attention_resolutions
        if attention is None:
            attention = tuple(size for size in resolutions if size <= ATTENTION_RESOLUTION)[:1]
        unmatched = [size for size in attention if size not in resolutions]
        if unmatched:
            raise UsageError(
                f"unet: attention_resolutions {_listed(unmatched)}: no level has that size. "
                f"Allowed at {shape.image_size} px with channel_mult {_listed(mult)}: {_listed(resolutions)}"
            )
        widths = _widths(options, mult)
        _check_groups(options, widths, resolutions)
        attended = [width for width, size in zip(widths, resolutions, strict=True) if size in attention]
        return options.model_copy(
            update={
                "channel_mult": mult,
                "attention_resolutions": attention,
                "num_head_channels": _head_channels(options, [*attended, widths[-1]]),
            }
        )

    def build(self, shape: ImageShape, num_classes: int) -> nn.Module:
        """Build a module with `forward(x, noise_level, labels=None)`, whose output is zero before training.

        Raises:
            UsageError: if `resolve_options` raises it.
        """
        return UNetModel(self.resolve_options(self.options, shape), shape, num_classes=num_classes)

    def set_memory_format(self, network: nn.Module, memory_format: torch.memory_format) -> bool:
        """Make the network compute in this layout."""
        assert isinstance(network, UNetModel), "it built the network"
        network.memory_format = memory_format
        return True


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _halvings(size: int) -> int:
    """How often `size` can be halved without a remainder."""
    return (size & -size).bit_length() - 1


def default_channel_mult(image_size: int) -> tuple[float, ...]:
    """ADM's multipliers for the largest published size up to `image_size`, cut to the possible number of levels."""
    levels = 1
    while image_size % 2**levels == 0 and image_size // 2**levels >= SMALLEST_LEVEL:
        levels += 1
    nearest = max(size for size in CHANNEL_MULT if size <= image_size)
    return CHANNEL_MULT[nearest][:levels]


def _resolutions(image_size: int, mult: Sequence[float]) -> list[int]:
    """The size in px of every level.

    Raises:
        UsageError: if the image cannot be halved that often.
    """
    if image_size % 2 ** (len(mult) - 1):
        raise UsageError(
            f"unet: channel_mult {_listed(mult)} has {len(mult)} levels, but an image of {image_size} px can only be "
            f"halved {_halvings(image_size)} times. Allowed: at most {_halvings(image_size) + 1} levels"
        )
    return [image_size >> level for level in range(len(mult))]


def _widths(options: UNet.Options, mult: Sequence[float]) -> list[int]:
    """The channels of every level.

    Raises:
        UsageError: if `norm_groups` does not divide them.
    """
    widths = [int(options.channels * factor) for factor in mult]
    if any(width == 0 or width % options.norm_groups for width in widths):
        raise UsageError(
            f"unet: channels {options.channels} with channel_mult {_listed(mult)} gives levels of {_listed(widths)} "
            f"channels; each must be a multiple of norm_groups {options.norm_groups}. "
            f"{_ways_on(options, mult)}"
        )
    return widths


def _check_groups(options: UNet.Options, widths: Sequence[int], resolutions: Sequence[int]) -> None:
    """Check that every group of a group norm has more than one value, from which alone its norm would make 0.

    Raises:
        UsageError: if one has a single value: at a level of one pixel with as many groups as channels.
    """
    single = [
        width for width, size in zip(widths, resolutions, strict=True) if size == 1 and width == options.norm_groups
    ]
    if single:
        smaller = [number for number in range(1, options.norm_groups) if all(width % number == 0 for width in widths)]
        ways = [f"norm_groups={smaller[-1]}"] if smaller else []
        ways += ["fewer levels in channel_mult"] if len(resolutions) > 1 else []
        raise UsageError(
            f"unet: at the level of 1x1 pixels, {single[0]} channels in norm_groups {options.norm_groups} are groups "
            f"of a single value, which a norm makes 0. Use {' or '.join(ways) or 'more channels'}"
        )


def _ways_on(options: UNet.Options, mult: Sequence[float]) -> str:
    """What to give instead, tried: channels that all levels allow, the largest norm_groups that fit, or both."""

    def allows(channels: int, groups: int) -> bool:
        return all(width and width % groups == 0 for width in (int(channels * factor) for factor in mult))

    ways = []
    tried = range(options.norm_groups, _MOST_CHANNELS + 1, options.norm_groups)
    channels = [number for number in tried if allows(number, options.norm_groups)][:3]
    if channels:
        ways.append(f"channels={', '.join(map(str, channels))}, ...")
    groups = [number for number in range(1, options.norm_groups) if allows(options.channels, number)]
    if groups:
        ways.append(f"norm_groups={groups[-1]}")
    return f"Use {' or '.join(ways)}" if ways else "Use another channel_mult, such as 1,2,2,2"


def _head_channels(options: UNet.Options, attended: Sequence[int]) -> int | None:
    """The channels per head, or None if the number of heads is given instead.

    Raises:
        UsageError: if heads do not divide the widths of the levels with attention.
    """
    if options.num_heads is None and options.num_head_channels is None:
        return math.gcd(HEAD_CHANNELS, *attended)
    name = "num_heads" if options.num_heads is not None else "num_head_channels"
    value = options.num_heads or options.num_head_channels or 1
    if any(width % value for width in attended):
        raise UsageError(
            f"unet: {name} {value} does not divide the widths of the levels with attention, {_listed(attended)}. "
            f"Allowed: the divisors of {math.gcd(*attended)}"
        )
    return options.num_head_channels


class Stage(nn.ModuleList):
    """Layers that run in sequence; the residual blocks among them also get the time embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map x [N, C, H, W] and embedding [N, E] to [N, C', H', W']."""
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNetModel(nn.Module):
    """The network: down through the levels, a middle block with attention, and up again with skip connections.

    `memory_format` is the layout of all images inside. By default it is channels-last, so that convolutions do not
    reorder their input and attention uses pixels as they are; the weights' layout does not matter.
    """

    def __init__(self, options: UNet.Options, shape: ImageShape, *, num_classes: int) -> None:
        super().__init__()
        mult = options.channel_mult
        assert mult is not None
        self.options, self.shape, self.num_classes = options, shape, num_classes
        self.memory_format: torch.memory_format = torch.channels_last
        widths, resolutions = _widths(options, mult), _resolutions(shape.image_size, mult)
        embedding_width = 4 * options.channels
        self.time_embed = nn.Sequential(
            nn.Linear(options.channels, embedding_width), nn.SiLU(), nn.Linear(embedding_width, embedding_width)
        )
        if num_classes > 0:
            self.label_emb = nn.Embedding(num_classes, embedding_width)
        self.input_blocks, skips = self._way_down(widths, resolutions)
        middle = widths[-1]
        self.middle_block = Stage(
            [self._res_block(middle, middle), self._attention_block(middle), self._res_block(middle, middle)]
        )
        self.output_blocks = self._way_up(widths, resolutions, skips)
        self.out = nn.Sequential(
            GroupNorm32(options.norm_groups, widths[0]),
            nn.SiLU(),
            zeroed(nn.Conv2d(widths[0], shape.out_channels, 3, padding=1)),
        )

    def _res_block(self, width_in: int, width_out: int, resample: Literal["up", "down"] | None = None) -> ResBlock:
        return ResBlock(
            width_in,
            width_out,
            embedding_channels=4 * self.options.channels,
            norm_groups=self.options.norm_groups,
            dropout=self.options.dropout,
            use_scale_shift_norm=self.options.use_scale_shift_norm,
            resample=resample,
        )

    def _attention_block(self, width: int) -> AttentionBlock:
        return AttentionBlock(
            width,
            num_heads=self.options.num_heads or width // (self.options.num_head_channels or width),
            norm_groups=self.options.norm_groups,
            use_new_order=self.options.use_new_attention_order,
        )

    def _blocks(self, width_in: int, width_out: int, resolution: int) -> list[nn.Module]:
        """A residual block, followed by attention if the resolution has it."""
        block = self._res_block(width_in, width_out)
        attended = resolution in (self.options.attention_resolutions or ())
        return [block, self._attention_block(width_out)] if attended else [block]

    def _resampler(self, width: int, direction: Literal["up", "down"]) -> nn.Module:
        if self.options.resblock_updown:
            return self._res_block(width, width, direction)
        return (Upsample if direction == "up" else Downsample)(width, conv=self.options.conv_resample)

    def _way_down(self, widths: list[int], resolutions: list[int]) -> tuple[nn.ModuleList, list[int]]:
        """The stages down, and the width of each one's output."""
        stages = nn.ModuleList([Stage([nn.Conv2d(self.shape.in_channels, widths[0], 3, padding=1)])])
        skips = [widths[0]]
        for level, (width, resolution) in enumerate(zip(widths, resolutions, strict=True)):
            if level:
                stages.append(Stage([self._resampler(skips[-1], "down")]))
                skips.append(skips[-1])
            for _ in range(self.options.num_res_blocks):
                stages.append(Stage(self._blocks(skips[-1], width, resolution)))
                skips.append(width)
        return stages, skips

    def _way_up(self, widths: list[int], resolutions: list[int], skips: list[int]) -> nn.ModuleList:
        """The stages up, each of which takes one of the `skips`, the last first."""
        stages, remaining, current = nn.ModuleList(), list(skips), widths[-1]
        for level in reversed(range(len(widths))):
            width = widths[level]
            for index in range(self.options.num_res_blocks + 1):
                layers = self._blocks(current + remaining.pop(), width, resolutions[level])
                if level and index == self.options.num_res_blocks:
                    layers.append(self._resampler(width, "up"))
                stages.append(Stage(layers))
                current = width
        return stages

    def _run(self, stage: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
        if self.options.use_checkpoint and torch.is_grad_enabled():
            out: Tensor = checkpoint(stage, x, embedding, use_reentrant=False)
        else:
            out = stage(x, embedding)
        return out

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map x [N, in_channels, H, W], noise_level [N] and labels (int64 [N] or None) to [N, out_channels, H, W]."""
        check_inputs(x, noise_level, labels, shape=self.shape, num_classes=self.num_classes)
        embedding = self.time_embed(timestep_embedding(noise_level, self.options.channels).to(x.dtype))
        if labels is not None:
            embedding = embedding + self.label_emb(labels)
        h, skips = x.contiguous(memory_format=self.memory_format), []
        for stage in self.input_blocks:
            h = self._run(stage, h, embedding)
            skips.append(h)
        h = self._run(self.middle_block, h, embedding)
        for stage in self.output_blocks:
            h = self._run(stage, torch.cat([h, skips.pop()], dim=1), embedding)
        out: Tensor = self.out(h)
        return out
