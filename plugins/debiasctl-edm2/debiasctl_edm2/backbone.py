"""The backbone `edm2`."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn

from debiasctl.api import Backbone, ImageShape, PluginOptions, Prediction, UsageError
from debiasctl_edm2.blocks import Settings
from debiasctl_edm2.network import MagnitudePreservingUNet
from debiasctl_edm2.presets import PRESETS, Preset

CHANNEL_MULT = (1.0, 2.0, 3.0, 4.0)
SMALLEST_LEVEL = 4  # px; by default no level is smaller than this
ATTENTION_RESOLUTIONS = (16, 8)
HEAD_CHANNELS = 64
CLASS_BALANCE = 0.5

Balance = Annotated[float, Field(ge=0, le=1)]


class EDM2(Backbone):
    """EDM2's magnitude-preserving U-Net, configuration G (Karras et al., 2024, arXiv 2312.02696).

    It has no biases and no group norms: every layer, sum and concatenation is scaled so that inputs of unit magnitude
    give outputs of unit magnitude. It is made for prediction=edm, whose input and target have unit magnitude and whose
    noise level is ln(sigma)/4. Train it with the extension forced-weight-normalization, as the paper does. Without a
    preset it is small enough for a CPU.
    """

    class Options(PluginOptions):
        """The options of EDM2's U-Net; those left unset depend on the image size.

        Options that are given beside a preset override it. A run stores what the preset sets.
        """

        preset: Preset | None = Field(
            None,
            exclude=True,
            description="size, which sets channels, channel_mult, num_blocks and dropout: XS to XXL are the paper's, "
            "for images or latents of 64 px; nano, micro and mini are for a CPU",
        )
        channels: int = Field(32, ge=1, le=2**20, description="width that channel_mult multiplies; 192 in size S")
        channel_mult: tuple[Annotated[float, Field(gt=0, le=2**20)], ...] | None = Field(
            None,
            min_length=1,
            max_length=16,
            description="width of each level relative to channels, each level half the size of the one before; "
            "unset: 1,2,3,4, cut to as many levels as halve to 4 px or more",
        )
        num_blocks: int = Field(1, ge=1, le=1000, description="blocks per level; 3 in the paper")
        attention_resolutions: tuple[PositiveInt, ...] | None = Field(
            None,
            description="sizes in px of the levels with attention, [] for only the first middle block; "
            "unset: 16 and 8 px, where there are such levels",
        )
        head_channels: int | None = Field(
            None, ge=1, description="channels per attention head; unset: 64 or its largest divisor that fits"
        )
        dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the residual branches; 0.1 in sizes M to XXL")
        residual_balance: Balance = Field(0.3, description="share t of the residual branch in its magnitude-kept sum")
        attention_balance: Balance = Field(0.3, description="share t of attention in its sum")
        class_balance: Balance = Field(CLASS_BALANCE, description="share t of the class in the embedding")
        concat_balance: Balance = Field(0.5, description="share t of the encoder's output in a concatenation")
        activation_clip: float | None = Field(256.0, gt=0, description="bound on activations; null: none")
        noise_level: Literal["log-sigma", "timestep"] = Field(
            "log-sigma",
            description="what the network is given: log-sigma: ln(sigma)/4, with prediction=edm; timestep: 0 … 1000, "
            "with the others, mapped to the same range",
        )
        use_checkpoint: bool = Field(False, description="recompute activations in the backward pass, to save memory")

        @model_validator(mode="before")
        @classmethod
        def _filled_in(cls, data: Any) -> Any:
            """Put a preset's options below those that are given."""
            name = data.get("preset") if isinstance(data, Mapping) else None
            preset = PRESETS.get(name) if isinstance(name, str) else None  # type: ignore[call-overload]
            if preset is None:
                return data  # an unknown name is refused by its type, which lists the known ones
            given = {name: value for name, value in data.items() if name != "preset"}
            if preset.keys() <= given.keys():
                raise ValueError(
                    f"preset {name} has no effect, because every option of it is given beside it. Leave it out"
                )
            return {**preset, **given}

    options: Options

    @classmethod
    def resolve_options(cls, options: Options, shape: ImageShape) -> Options:
        """Fill in the options that depend on the image size.

        Raises:
            UsageError: if levels, attention or heads do not fit the image or one another.
        """
        size = shape.image_size
        mult = options.channel_mult or CHANNEL_MULT[: _num_levels(size)]
        resolutions = _resolutions(size, mult)
        widths = _widths(options.channels, mult)
        attention = options.attention_resolutions
        if attention is None:
            attention = tuple(one for one in ATTENTION_RESOLUTIONS if one in resolutions)
        unmatched = [one for one in attention if one not in resolutions]
        if unmatched:
            raise UsageError(
                f"edm2: attention_resolutions {_listed(unmatched)}: no level has that size. "
                f"Allowed at {size} px with channel_mult {_listed(mult)}: {_listed(resolutions)}"
            )
        attended = [width for width, one in zip(widths, resolutions, strict=True) if one in attention]
        common = math.gcd(widths[-1], *attended)  # the middle always has attention
        head_channels = options.head_channels or math.gcd(HEAD_CHANNELS, common)
        if common % head_channels:
            raise UsageError(
                f"edm2: head_channels {head_channels} does not divide the widths with attention, "
                f"{_listed(sorted({*attended, widths[-1]}))}. Allowed: the divisors of {common}"
            )
        found = {"channel_mult": mult, "attention_resolutions": attention, "head_channels": head_channels}
        return options.model_copy(update=found)

    def build(self, shape: ImageShape, num_classes: int) -> nn.Module:
        """Build a module with `forward(x, noise_level, labels=None)`, whose output is zero before training.

        Raises:
            UsageError: if `resolve_options` raises it, the variance is to be learned, or there is no class to balance.
        """
        if shape.out_channels != shape.in_channels:
            raise UsageError(
                f"edm2: {shape.out_channels} output channels for images of {shape.in_channels}, as for a learned "
                "variance. This network predicts the image alone: all its outputs share one gain, for a target of "
                "unit magnitude. Leave out `model.learned_variance`, or use another `model.backbone`"
            )
        options = self.resolve_options(self.options, shape)
        if not num_classes and options.class_balance != CLASS_BALANCE:
            raise UsageError(
                "edm2: class_balance has no effect on a network without classes. Leave it out, or train on data with "
                "classes and `model.conditional=true`"
            )
        mult, attention, head_channels = options.channel_mult, options.attention_resolutions, options.head_channels
        assert mult is not None
        assert attention is not None
        assert head_channels is not None
        widths = _widths(options.channels, mult)
        return MagnitudePreservingUNet(
            shape,
            num_classes,
            Settings(
                embedding_channels=max(widths),
                residual_balance=options.residual_balance,
                attention_balance=options.attention_balance,
                dropout=options.dropout,
                activation_clip=options.activation_clip,
            ),
            widths=widths,
            num_blocks=options.num_blocks,
            attended=tuple(one in attention for one in _resolutions(shape.image_size, mult)),
            head_channels=head_channels,
            class_balance=options.class_balance,
            concat_balance=options.concat_balance,
            from_timesteps=options.noise_level == "timestep",
            use_checkpoint=options.use_checkpoint,
        )

    def set_memory_format(self, network: nn.Module, memory_format: torch.memory_format) -> bool:
        """Make the network compute in this layout."""
        assert isinstance(network, MagnitudePreservingUNet), "it built the network"
        network.memory_format = memory_format
        return True

    def check_prediction(self, prediction: Prediction, *, sigma_data: float) -> None:
        """Check that the network is given the noise level that its embedding is made for.

        Raises:
            UsageError: if `noise_level` does not belong to the prediction type.
        """
        if prediction == "edm" and self.options.noise_level != "log-sigma":
            raise UsageError(
                "edm2: with `model.prediction=edm` the network is given ln(sigma)/4, and noise_level=timestep would "
                "make one value of all. Leave noise_level out"
            )
        if prediction != "edm" and self.options.noise_level != "timestep":
            raise UsageError(
                f"edm2: with `model.prediction={prediction}` the network is given timesteps of 0 to 1000, which its "
                "embedding of ln(sigma)/4 would make noise of. Use `model.prediction=edm`, for which it is made, or "
                "add the option noise_level=timestep: edm2:noise_level=timestep"
            )


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _halvings(size: int) -> int:
    """How often `size` can be halved without a remainder."""
    return (size & -size).bit_length() - 1


def _num_levels(size: int) -> int:
    """As many levels as the default multipliers have, or as are of a whole number of pixels and not too small."""
    possible = [halved for halved in range(_halvings(size) + 1) if halved == 0 or size >> halved >= SMALLEST_LEVEL]
    return min(len(possible), len(CHANNEL_MULT))


def _resolutions(size: int, mult: Sequence[float]) -> list[int]:
    """The size in px of every level.

    Raises:
        UsageError: if the image cannot be halved that often.
    """
    if size % 2 ** (len(mult) - 1):
        raise UsageError(
            f"edm2: channel_mult {_listed(mult)} has {len(mult)} levels, but an image of {size} px can only be halved "
            f"{_halvings(size)} times. Allowed: at most {_halvings(size) + 1} levels"
        )
    return [size >> level for level in range(len(mult))]


def _widths(channels: int, mult: Sequence[float]) -> tuple[int, ...]:
    """The channels of every level.

    Raises:
        UsageError: if one has none.
    """
    widths = tuple(int(channels * factor) for factor in mult)
    if not all(widths):
        raise UsageError(
            f"edm2: channels {channels} with channel_mult {_listed(mult)} gives levels of {_listed(widths)} channels. "
            "Each needs at least 1"
        )
    return widths
