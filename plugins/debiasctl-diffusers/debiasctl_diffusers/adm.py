"""The built-in U-Net `unet`, ADM's, as a UNet2DModel of diffusers that computes the same."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import ExternalModel, UsageError

_REFUSED = "export-diffusers: the run's unet cannot be a UNet2DModel"
_NORM_EPS = 1e-5
# names within a residual block, and of the layers outside of levels
_RES = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2",
    "out_layers.3": "conv2", "skip_connection": "conv_shortcut",
}  # fmt: skip
_OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding", "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out",
}  # fmt: skip
_LAYER = re.compile(r"(input_blocks|output_blocks)\.(\d+)\.(\d+)\.(.+)|middle_block\.(\d)\.(.+)")


def config_of(model: ExternalModel) -> dict[str, Any]:
    """UNet2DModel's configuration of a built-in U-Net.

    Raises:
        UsageError: if there is none that computes the same; the message names the option.
    """
    options = model.backbone_options
    mult, channels = options["channel_mult"], options["channels"]
    widths = [int(channels * factor) for factor in mult]
    if widths[0] != channels:
        raise UsageError(
            f"{_REFUSED}: channel_mult begins with {mult[0]:g}, and a UNet2DModel embeds the noise level in the width "
            "of its first level"
        )
    if not options["resblock_updown"] and not options["conv_resample"]:
        raise UsageError(f"{_REFUSED}: with conv_resample=false it averages pixels alone, and a UNet2DModel convolves")
    resnet = options["resblock_updown"]
    sizes = [model.image_size >> level for level in range(len(mult))]
    attended = [size in options["attention_resolutions"] for size in sizes]
    plain = "Resnet{}sampleBlock2D" if resnet else "{}Block2D"
    down = ["AttnDownBlock2D" if one else plain.format("Down") for one in attended]
    up = ["AttnUpBlock2D" if one else plain.format("Up") for one in reversed(attended)]
    return {
        "sample_size": model.image_size,
        "in_channels": model.channels,
        "out_channels": model.channels * (1 + model.learned_variance),
        "block_out_channels": widths,
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": options["num_res_blocks"],
        "downsample_type": "resnet" if resnet else "conv",
        "upsample_type": "resnet" if resnet else "conv",
        "attention_head_dim": _head_dim(options, {*_attended(widths, attended), widths[-1]}),
        "norm_num_groups": options["norm_groups"],
        "attn_norm_num_groups": options["norm_groups"],
        "norm_eps": _NORM_EPS,
        "resnet_time_scale_shift": "scale_shift" if options["use_scale_shift_norm"] else "default",
        "dropout": options["dropout"],
        "num_class_embeds": (model.num_classes + model.null_class) or None,
    }


def state_of(model: ExternalModel) -> dict[str, Tensor]:
    """The tensors of a built-in U-Net by the names of a UNet2DModel."""
    found: dict[str, Tensor] = {}
    per_level = model.backbone_options["num_res_blocks"]
    for name, tensor in model.weights.items():
        outside = next((one for one in _OUTSIDE if name.startswith(f"{one}.")), None)
        if outside is not None:
            found[f"{_OUTSIDE[outside]}{name.removeprefix(outside)}"] = tensor
            continue
        place = _LAYER.fullmatch(name)
        assert place is not None, f"no tensor of a U-Net: {name}"
        found |= _layer(place, tensor, model, per_level)
    return found


def _layer(place: "re.Match[str]", tensor: Tensor, model: ExternalModel, per_level: int) -> dict[str, Tensor]:
    """A tensor within a level or the middle, by its name there; attention's one map becomes three."""
    if place[5] is not None:
        number, rest = int(place[5]), place[6]
        block = f"mid_block.attentions.0.{rest}" if number == 1 else f"mid_block.resnets.{number // 2}.{rest}"
        return _named(block, rest, tensor, model)
    stage, layer, rest = int(place[2]), int(place[3]), place[4]
    is_attention = rest.startswith(("norm.", "qkv.", "proj_out."))
    if place[1] == "input_blocks":
        number, index = divmod(stage - 1, per_level + 1)
        level, part = f"down_blocks.{number}", "resnets"
        if index == per_level:
            index, part = 0, "downsamplers"
    else:
        number, index = divmod(stage, per_level + 1)
        level, part = f"up_blocks.{number}", "resnets"
        if layer > 0 and not is_attention:
            index, part = 0, "upsamplers"
    part = "attentions" if is_attention else part
    return _named(f"{level}.{part}.{index}.{rest}", rest, tensor, model)


def _named(name: str, rest: str, tensor: Tensor, model: ExternalModel) -> dict[str, Tensor]:
    start = name.removesuffix(rest)
    if rest.startswith("qkv."):
        kind = rest.removeprefix("qkv.")
        return {
            f"{start}{to}.{kind}": part
            for to, part in zip(("to_q", "to_k", "to_v"), _split(tensor, model), strict=True)
        }
    if rest.startswith("norm."):
        return {f"{start}group_norm.{rest.removeprefix('norm.')}": tensor}
    if rest.startswith("proj_out."):
        return {f"{start}to_out.0.{rest.removeprefix('proj_out.')}": tensor.flatten(1) if tensor.ndim == 3 else tensor}
    for theirs, ours in _RES.items():
        if rest.startswith(f"{theirs}."):
            return {f"{start}{ours}{rest.removeprefix(theirs)}": tensor}
    if rest.startswith(("op.", "conv.")):  # of a level that is resampled by a convolution
        return {f"{start}conv.{rest.partition('.')[2]}": tensor}
    raise AssertionError(f"no tensor of a U-Net: {name}")


def _split(qkv: Tensor, model: ExternalModel) -> tuple[Tensor, Tensor, Tensor]:
    """The maps to queries, keys and values, from one [3 C, C, 1] or its bias [3 C]."""
    options = model.backbone_options
    flat = qkv.flatten(1) if qkv.ndim == 3 else qkv
    width = len(flat) // 3
    heads = options["num_heads"] or width // (options["num_head_channels"] or width)
    shape = (3, heads, width // heads) if options["use_new_attention_order"] else (heads, 3, width // heads)
    parts = flat.reshape(*shape, *flat.shape[1:])
    parts = parts if options["use_new_attention_order"] else parts.transpose(0, 1)
    q, k, v = (part.reshape(width, *flat.shape[1:]).contiguous() for part in torch.unbind(parts))
    return q, k, v


def _attended(widths: list[int], attended: list[bool]) -> list[int]:
    return [width for width, one in zip(widths, attended, strict=True) if one]


def _head_dim(options: Mapping[str, Any], widths: set[int]) -> int:
    """The channels of a head, which are the same at all levels of a UNet2DModel.

    Raises:
        UsageError: if they are not in this network.
    """
    if options["num_head_channels"] is not None:
        return int(options["num_head_channels"])
    dims = {width // options["num_heads"] for width in widths}
    if len(dims) > 1:
        raise UsageError(
            f"{_REFUSED}: num_heads={options['num_heads']} at levels of {', '.join(map(str, sorted(widths)))} channels "
            "gives heads of several widths, and a UNet2DModel's are all of one"
        )
    return int(dims.pop())
