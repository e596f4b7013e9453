"""Checkpoints of guided-diffusion and what was built on it: ADM, P2 and Debias."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import (
    ExternalModel,
    ImageShape,
    ModelError,
    ModelSource,
    PluginOptions,
    UsageError,
    read_state_dict,
    state_dict_differences,
)
from debiasctl.api.files import quoted
from debiasctl.builtin.backbones.unet import UNet, UNetModel
from debiasctl.builtin.backbones.unet_presets import PRESETS, Preset
from debiasctl.builtin.models._support.adm_flags import how_to_load
from debiasctl.builtin.models._support.adm_layout import NEEDED, Layout, NotTheFamilyError, read_layout
from debiasctl.builtin.models._support.state_files import (
    AbsolutePath,
    check_ending,
    check_weights,
    shape_of,
    write_state,
)

NORM_GROUPS = 32  # fixed in the family's code
NUM_TIMESTEPS = 1000
_OF_THE_NETWORK = ("num_heads", "num_head_channels", "use_new_attention_order", "dropout")
# what no file determines: how messages explain it
_ASKED = {
    "image_size": "in pixels",
    "num_heads": "or num_head_channels; ADM and Debias have num_head_channels=64, improved-diffusion num_heads=4",
    "num_head_channels": "",
    "use_new_attention_order": "false as a rule; ADM's ImageNet 64 has true",
    "schedule": "linear or cosine",
    "num_timesteps": "1000 as a rule",
    "dropout": "0 unless it was trained with some",
}
_STEPS = re.compile(r"(?:model|ema_[\d.]+_)(\d{4,})$")  # the names that the family's programs give their files


class GuidedDiffusion(ModelSource):
    """A checkpoint of guided-diffusion's U-Net: ADM (2105.05233), P2 (2204.00227), Debias (2310.08442).

    The file is a flat mapping of names to tensors, `model500000.pt` or `ema_0.9999_500000.pt`, or the same as
    safetensors. Widths, blocks, attention, classes and a learned variance follow from its names and shapes. The options
    below, which do not, are given, or come with a preset.
    """

    class Options(PluginOptions):
        """What a file does not say."""

        path: AbsolutePath = Field(description="the file, .pt or .safetensors")
        preset: Preset | None = Field(None, description="published network, which gives all other options")
        image_size: int | None = Field(None, ge=1, le=4096, description="height and width of its images, in pixels")
        num_heads: int | None = Field(None, ge=1, description="attention heads, or give num_head_channels")
        num_head_channels: int | None = Field(None, ge=1, description="channels of a head, or give num_heads")
        use_new_attention_order: bool | None = Field(None, description="as its training had it; most say false")
        schedule: Literal["linear", "cosine"] | None = Field(None, description="noise schedule (there: noise_schedule)")
        num_timesteps: int | None = Field(None, ge=2, le=100_000, description="there: diffusion_steps, 1000 as a rule")
        rescale_timesteps: bool | None = Field(None, description="as its training had it; asked for if T is not 1000")
        prediction: Literal["eps", "x0"] = Field("eps", description="x0 if it was trained with predict_xstart")
        dropout: float | None = Field(None, ge=0, lt=1, description="dropout in training, for runs that start from it")

        @model_validator(mode="after")
        def _heads_are_given_once(self) -> Self:
            if self.num_heads is not None and self.num_head_channels is not None:
                raise ValueError("num_heads and num_head_channels determine one another: give only one of them")
            return self

    options: Options

    def read(self) -> ExternalModel:
        """Read the tensors, infer the architecture, and check that the network has exactly these.

        Raises:
            UsageError: if options are missing; the message names all of them.
            ModelError: if the file is not one of the family, or not of the preset's network.
        """
        path, preset = self.options.path, self.options.preset
        weights = read_state_dict(path, holds=NEEDED[0])
        try:
            layout = read_layout({name: tensor.shape for name, tensor in weights.items()})
        except NotTheFamilyError as error:
            raise ModelError(
                f"{path} is not a checkpoint of a U-Net of guided-diffusion: {error}. {_instead(weights, preset)}"
            ) from error
        variance = _learned_variance(path, layout)
        given = self._given()
        size = given["image_size"]
        _check_size(size, num_levels=len(layout.widths))
        if preset is None:
            backbone = {**layout.options, "attention_resolutions": tuple(size >> level for level in layout.attended)}
        else:
            backbone = {"preset": preset}
        backbone |= {name: given[name] for name in _OF_THE_NETWORK if given[name] is not None}
        shape = ImageShape(size, layout.in_channels, layout.out_channels)
        options = UNet.resolve_options(UNet.Options.model_validate(backbone), shape)
        differences = state_dict_differences(weights, expected(options, shape, layout.num_classes))
        if differences:
            of = f"the network of preset={preset}" if preset else "the U-Net that its widths and blocks describe"
            raise ModelError(f"{path} does not hold {of}: {differences}{_other_presets(layout, preset)}")
        return ExternalModel(
            backbone="unet",
            backbone_options=options.model_dump(mode="json"),
            weights=weights,
            image_size=size,
            channels=layout.in_channels,
            prediction=self.options.prediction,
            schedule=given["schedule"],
            schedule_options={"num_timesteps": given["num_timesteps"]},
            num_classes=layout.num_classes,
            learned_variance=variance,
            steps=_steps(path),
            notes=_notes(weights, layout, options, variance=variance, preset=preset),
        )

    def _given(self) -> dict[str, Any]:
        """The options that the file does not determine, given or from the preset.

        Raises:
            UsageError: if one is neither; the message names all of these.
        """
        options, found = self.options, {name: getattr(self.options, name) for name in _ASKED}
        if options.preset is not None:
            published = PRESETS[options.preset]
            heads = {} if options.num_heads or options.num_head_channels else published.heads
            filled: dict[str, Any] = {
                "image_size": published.image_size,
                "schedule": published.schedule,
                "num_timesteps": NUM_TIMESTEPS,
                "use_new_attention_order": published.options.get("use_new_attention_order", False),
                "dropout": published.options.get("dropout", 0.0),
                **heads,
            }
            found = {name: filled.get(name) if value is None else value for name, value in found.items()}
        heads_given = found["num_heads"] is not None or found["num_head_channels"] is not None
        needless = {"num_heads", "num_head_channels"} if heads_given else {"num_head_channels"}
        missing = [name for name, value in found.items() if value is None and name not in needless]
        if missing:
            raise UsageError(
                "guided-diffusion: the file does not say what follows, so give it as options: "
                f"{'; '.join(f'{name} ({_ASKED[name]})' for name in missing)}. A published network has a preset that "
                f"gives all of it: preset={', '.join(PRESETS)}"
            )
        _check_timesteps(found["num_timesteps"], self.options.rescale_timesteps)
        return found

    @classmethod
    def write(cls, model: ExternalModel, path: Path) -> tuple[str, ...]:
        """Write a U-Net's tensors by the family's names, in the family's order; returns how its programs load them.

        Raises:
            UsageError: if it is another backbone, or one that the family's code cannot build or sample.
        """
        check_ending(path)
        if model.backbone != "unet":
            raise UsageError(f"guided-diffusion holds U-Nets (backbone unet), and this network is a '{model.backbone}'")
        if model.prediction not in ("eps", "x0"):
            raise UsageError(
                f"guided-diffusion's programs know eps- and x0-prediction, and this network predicts "
                f"{model.prediction}: they would take its output for eps and draw noise"
            )
        options = UNet.Options.model_validate(dict(model.backbone_options))
        if options.norm_groups != NORM_GROUPS:
            raise UsageError(
                f"guided-diffusion's group norms have {NORM_GROUPS} groups, and this network's {options.norm_groups} "
                "(norm_groups)"
            )
        classes, shape = model.num_classes + model.null_class, shape_of(model)
        options = UNet.resolve_options(options, shape)
        ours = expected(options, shape, classes)
        check_weights(model, ours)
        write_state({name: model.weights[name].contiguous() for name in ours}, path)
        return how_to_load(model, options, classes)


def expected(options: UNet.Options, shape: ImageShape, num_classes: int) -> dict[str, Tensor]:
    """The tensors of the network, without their numbers, in the family's order."""
    with torch.device("meta"):
        return dict(UNetModel(options, shape, num_classes=num_classes).state_dict())


def _instead(weights: Mapping[str, Tensor], preset: Preset | None) -> str:
    """What a file holds that is not of the family; with a preset, how it differs from that."""
    if preset is not None:
        shape, labels = ImageShape(PRESETS[preset].image_size, 3, 6), weights.get("label_emb.weight")
        options = UNet.resolve_options(UNet.Options(preset=preset), shape)
        classes = 0 if labels is None or not labels.ndim else len(labels)
        return f"Compared with preset={preset}: {state_dict_differences(weights, expected(options, shape, classes))}"
    return f"It holds {len(weights):,} tensors, such as {', '.join(map(quoted, list(weights)[:4]))}"


def _learned_variance(path: Path, layout: Layout) -> bool:
    """Whether half of the output is the variance.

    Raises:
        ModelError: if the output is neither the image nor twice that.
    """
    if layout.out_channels not in (layout.in_channels, 2 * layout.in_channels):
        raise ModelError(
            f"{path} takes {layout.in_channels} channels and gives {layout.out_channels}. A network that draws images "
            "gives as many as it takes, or twice as many with a variance; one for super-resolution or inpainting takes "
            "more, and has no place here"
        )
    return layout.out_channels != layout.in_channels


def _check_size(image_size: int, *, num_levels: int) -> None:
    """Check that images can be halved from each level of the network to the next.

    Raises:
        UsageError: if they cannot.
    """
    smallest = 2 ** (num_levels - 1)
    if image_size % smallest:
        raise UsageError(
            f"guided-diffusion: image_size={image_size}, and the network halves its images {num_levels - 1} times, so "
            f"that their size must be a multiple of {smallest}"
        )


def _check_timesteps(num_timesteps: int, rescaled: bool | None) -> None:
    """Check that the network is given t as 0 ... num_timesteps - 1.

    Raises:
        UsageError: if it is given something else, or nobody has said.
    """
    if num_timesteps == NUM_TIMESTEPS:
        return
    if rescaled is None:
        raise UsageError(
            f"guided-diffusion: num_timesteps={num_timesteps} is not {NUM_TIMESTEPS}, so say whether its training had "
            "rescale_timesteps: rescale_timesteps=true or rescale_timesteps=false"
        )
    if rescaled:
        raise UsageError(
            f"guided-diffusion: with rescale_timesteps=true and num_timesteps={num_timesteps} the network takes "
            f"fractions of {NUM_TIMESTEPS}, which is not supported"
        )


def _steps(path: Path) -> int | None:
    """The steps of training in the name of a file of the family's programs."""
    named = _STEPS.search(path.stem)
    return None if named is None else int(named[1])


def _other_presets(layout: Layout, preset: Preset | None) -> str:
    """Which presets have the file's widths and blocks, where the given one has not."""
    own = {name: layout.options[name] for name in ("channels", "channel_mult", "num_res_blocks")}
    fitting = [
        name
        for name, published in PRESETS.items()
        if name != preset and all(published.options[option] == value for option, value in own.items())
    ]
    return f". Its widths and blocks are those of preset={' or '.join(fitting)}" if fitting else ""


def _notes(
    weights: Mapping[str, Tensor], layout: Layout, options: UNet.Options, *, variance: bool, preset: Preset | None
) -> tuple[str, ...]:
    """What was inferred from the file, and what its tensors are."""
    attention = ", ".join(map(str, options.attention_resolutions or ())) or "none but the middle block's"
    mult = ", ".join(f"{factor:g}" for factor in options.channel_mult or ())
    found = [
        f"from its tensors: channels {options.channels}, channel_mult {mult}, num_res_blocks "
        f"{options.num_res_blocks}, attention at {attention} px, resblock_updown "
        f"{str(options.resblock_updown).lower()}, use_scale_shift_norm {str(options.use_scale_shift_norm).lower()}, "
        f"{layout.num_classes or 'no'} classes, {'a' if variance else 'no'} learned variance"
    ]
    if preset is not None:
        found.append(f"from preset={preset}: what the file does not say, unless it was given")
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()} - {"float32"})
    if kinds:
        found.append(f"some of its tensors are {', '.join(kinds)}, which stay as they are and are computed in float32")
    return tuple(found)
