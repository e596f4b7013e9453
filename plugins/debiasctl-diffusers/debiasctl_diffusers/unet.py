"""The unconditional U-Net of diffusers, UNet2DModel."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from debiasctl.api import Backbone, ImageShape, PluginOptions, UsageError
from debiasctl_diffusers.network import built, check_inputs

Down = Literal["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"]
Up = Literal["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"]
Preset = Literal["ddpm-cifar10-32", "ddpm-256", "tutorial-128"]
UP_OF: Mapping[str, Up] = dict(zip(get_args(Down), get_args(Up), strict=True))
WIDTHS: Mapping[int, tuple[int, ...]] = {  # by image size from which on; shortened where the image is halved less often
    256: (128, 128, 256, 256, 512, 512),
    128: (128, 128, 256, 256, 512),
    64: (128, 256, 256, 512),
    24: (128, 256, 256, 256),
    16: (64, 128, 128),
    1: (64, 128),
}
ATTENTION, SMALLEST = 16, 4  # px: attention at the largest level up to the one, and no level smaller than the other
_PUBLISHED: dict[str, Any] = {  # 2006.11239, as diffusers' conversions of its checkpoints have it
    "attention_head_dim": None, "norm_eps": 1e-6, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1,
}  # fmt: skip
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "ddpm-cifar10-32": {
        "block_out_channels": [128, 256, 256, 256],
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
        **_PUBLISHED,
    },
    "ddpm-256": {
        "block_out_channels": [128, 128, 256, 256, 512, 512],
        "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
        **_PUBLISHED,
    },
    "tutorial-128": {
        "block_out_channels": [128, 128, 256, 256, 512, 512],
        "down_block_types": [*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"],
    },
}


class DiffusersUNet(Backbone):
    """The U-Net UNet2DModel of diffusers, by default as large as suits the images (Ho et al., 2020, arXiv 2006.11239).

    Its options are those of UNet2DModel's configuration, by the same names and with the same defaults, but for those
    that depend on the image size. Classes are embedded with one row each, and one more for no class.
    """

    class Options(PluginOptions):
        """UNet2DModel's configuration; options that are given beside a preset override it."""

        preset: Preset | None = Field(None, exclude=True, description="published network, which sets widths and blocks")
        block_out_channels: tuple[Annotated[int, Field(ge=1, le=2**16)], ...] | None = Field(
            None,
            min_length=1,
            max_length=12,
            description="width of each level, each half the size of the one before; unset: by the image size, from "
            "64,128 at 8 px to 128,128,256,256,512,512 at 256 px",
        )
        down_block_types: tuple[Down, ...] | None = Field(
            None, description="block of each level; unset: attention at the largest level of at most 16 px"
        )
        up_block_types: tuple[Up, ...] | None = Field(None, description="unset: those of down_block_types, mirrored")
        layers_per_block: int = Field(2, ge=1, le=64, description="residual blocks of each level")
        mid_block_type: Literal["UNetMidBlock2D"] | None = Field("UNetMidBlock2D", description="null: no middle block")
        add_attention: bool = Field(True, description="attention in the middle block")
        attention_head_dim: PositiveInt | None = Field(8, description="channels of a head; null: one head")
        norm_num_groups: PositiveInt = Field(32, description="groups of the group norms, a divisor of every width")
        attn_norm_num_groups: PositiveInt | None = Field(
            None, description="groups of the norm of the middle block's attention; unset: as UNet2DModel has it"
        )
        norm_eps: float = Field(1e-5, gt=0, description="added to variances in group norms")
        resnet_time_scale_shift: Literal["default", "scale_shift"] = Field(
            "default", description="the time embedding is added, or scales and shifts norms"
        )
        downsample_type: Literal["conv", "resnet"] = Field("conv", description="of blocks with attention")
        upsample_type: Literal["conv", "resnet"] = Field("conv", description="of blocks with attention")
        downsample_padding: int = Field(1, ge=0, le=1, description="0: padded on the right and at the bottom alone")
        mid_block_scale_factor: float = Field(1.0, gt=0, description="what the middle block's output is divided by")
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the residual blocks")
        act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = Field("silu", description="activation function")
        center_input_sample: bool = Field(False, description="the network sees 2 x - 1, for x in [0, 1]")
        time_embedding_dim: PositiveInt | None = Field(None, description="unset: 4 times the first width")
        flip_sin_to_cos: bool = Field(True, description="cosines before sines in the embedding of the noise level")
        freq_shift: float = Field(0.0, description="frequencies are spaced over half the first width less this")
        use_checkpoint: bool = Field(
            False, description="recompute activations in the backward pass, to save memory; no part of diffusers' own"
        )

        @model_validator(mode="before")
        @classmethod
        def _filled_in(cls, data: Any) -> Any:
            """Put a preset's options below those that are given."""
            preset = data.get("preset") if isinstance(data, Mapping) else None
            published = PRESETS.get(preset) if isinstance(preset, str) else None
            return data if published is None else {**published, **data}

        @model_validator(mode="after")
        def _agrees(self) -> Self:
            lists = {
                name: value
                for name in ("block_out_channels", "down_block_types", "up_block_types")
                if (value := getattr(self, name)) is not None
            }
            if len({len(value) for value in lists.values()}) > 1:
                told = ", ".join(f"{name} has {len(value)}" for name, value in lists.items())
                raise ValueError(f"each level has a width and blocks, so these are equally many: {told}")
            return self

    options: Options

    @classmethod
    def resolve_options(cls, options: Options, shape: ImageShape) -> Options:
        """Fill in widths and blocks for the image size.

        Raises:
            UsageError: if the image cannot be halved as often as the levels need, or groups do not divide a width.
        """
        given = options.block_out_channels or options.down_block_types or options.up_block_types
        size = shape.image_size
        most = 1 + (size & -size).bit_length() - 1
        if given is not None and len(given) > most:
            raise UsageError(
                f"diffusers-unet: {len(given)} levels, but an image of {size} px can only be halved {most - 1} times. "
                f"Give at most {most} levels"
            )
        widths = options.block_out_channels or _widths(size, None if given is None else len(given), most)
        blocks = options.down_block_types or (
            tuple(_mirrored(options.up_block_types)) if options.up_block_types else _blocks(size, len(widths))
        )
        uneven = [width for width in widths if width % options.norm_num_groups]
        if uneven:
            raise UsageError(
                f"diffusers-unet: norm_num_groups={options.norm_num_groups} does not divide the width {uneven[0]}. "
                "Choose norm_num_groups, or multiples of it as block_out_channels"
            )
        found = {
            "block_out_channels": widths,
            "down_block_types": blocks,
            "up_block_types": options.up_block_types or tuple(UP_OF[one] for one in reversed(blocks)),
        }
        return options.model_copy(update=found)

    def build(self, shape: ImageShape, num_classes: int) -> nn.Module:
        """Build a module with `forward(x, noise_level, labels=None)`.

        Raises:
            UsageError: if the options do not fit the image or one another.
        """
        return UNet(self.resolve_options(self.options, shape), shape, num_classes=num_classes)


def config_of(options: DiffusersUNet.Options, shape: ImageShape, num_classes: int) -> dict[str, Any]:
    """UNet2DModel's configuration for resolved options."""
    config = options.model_dump(exclude={"use_checkpoint"})
    return {
        **config,
        "sample_size": shape.image_size,
        "in_channels": shape.in_channels,
        "out_channels": shape.out_channels,
        "num_class_embeds": num_classes or None,
    }


class UNet(nn.Module):
    """UNet2DModel as `unet`, called as debiasctl calls networks."""

    def __init__(self, options: DiffusersUNet.Options, shape: ImageShape, *, num_classes: int) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        self.shape, self.num_classes = shape, num_classes
        self.unet = built("diffusers-unet", UNet2DModel, config_of(options, shape, num_classes))
        if options.use_checkpoint:
            self.unet.enable_gradient_checkpointing()

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map x [N, in_channels, H, W], noise_level [N] and labels (int64 [N] or None) to [N, out_channels, H, W]."""
        check_inputs(x, noise_level, labels, shape=self.shape, num_classes=self.num_classes)
        out: Tensor = self.unet(x, noise_level, class_labels=labels, return_dict=False)[0]
        return out


def _widths(size: int, levels: int | None, most: int) -> tuple[int, ...]:
    """As many widths as there are levels, or as are usual for the size."""
    usual = next(widths for least, widths in WIDTHS.items() if size >= least)
    if levels is not None:
        return (*usual[:levels], *[usual[-1]] * (levels - len(usual)))
    fitting = [count for count in range(1, most + 1) if size >> (count - 1) >= SMALLEST] or [1]
    return usual[: fitting[-1]]


def _blocks(size: int, levels: int) -> tuple[Down, ...]:
    sizes = [size >> level for level in range(levels)]
    attended = next((side for side in sizes if side <= ATTENTION), None)
    return tuple("AttnDownBlock2D" if side == attended else "DownBlock2D" for side in sizes)


def _mirrored(up: tuple[Up, ...]) -> list[Down]:
    down_of: dict[str, Down] = dict(zip(get_args(Up), get_args(Down), strict=True))
    return [down_of[one] for one in reversed(up)]
