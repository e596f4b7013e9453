"""The architecture of a U-Net of the guided-diffusion family, read from the names and shapes of its tensors."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Size

from debiasctl.api import ModelError

NEEDED = ("time_embed.0.weight", "time_embed.2.weight", "input_blocks.0.0.weight", "middle_block.1.qkv.weight",
          "out.0.weight", "out.2.weight")  # fmt: skip
_WAYS = ("input", "output")
_BLOCK = re.compile(r"(input|output)_blocks\.(\d{1,4})\.")
Shapes = Mapping[str, Size]


@dataclass(frozen=True)
class Layout:
    """What the tensors determine: the backbone's options, and the levels that have attention, 0 being the largest."""

    options: Mapping[str, Any]
    attended: tuple[int, ...]
    widths: tuple[int, ...]
    in_channels: int
    out_channels: int
    num_classes: int


class NotTheFamilyError(ModelError):
    """The tensors are not those of a U-Net of the family."""


def read_layout(shapes: Shapes) -> Layout:
    """Read the architecture.

    Raises:
        NotTheFamilyError: if the names or shapes are not those of the family; the message says what is missing.
    """
    missing = [name for name in NEEDED if name not in shapes]
    if missing:
        raise NotTheFamilyError(f"it lacks {', '.join(missing)}")
    flat = [name for name in (*NEEDED[:3], *NEEDED[5:]) if len(shapes[name]) != (2 if "embed" in name else 4)]
    if flat:
        raise NotTheFamilyError(f"{flat[0]} is {list(shapes[flat[0]])}")
    channels = shapes["time_embed.0.weight"][1]
    num_levels, num_res_blocks, changes = _levels(shapes)
    stride = num_res_blocks + 1
    widths = tuple(_width(shapes, 1 + level * stride) for level in range(num_levels))
    attended = tuple(
        level for level in range(num_levels) if f"input_blocks.{1 + level * stride}.1.qkv.weight" in shapes
    )
    labels = shapes.get("label_emb.weight")
    return Layout(
        {
            "channels": channels,
            "channel_mult": tuple(_multiplier(width, channels) for width in widths),
            "num_res_blocks": num_res_blocks,
            "use_scale_shift_norm": _scales(shapes),
            **changes,
        },
        attended,
        widths,
        shapes["input_blocks.0.0.weight"][1],
        shapes["out.2.weight"][0],
        0 if labels is None else labels[0],
    )


def _levels(shapes: Shapes) -> tuple[int, int, dict[str, bool]]:
    """The number of levels, the residual blocks of each, and how the size changes between them.

    The way up has one block more a level than the way down, and its last one (but on the largest level) doubles the
    size: by a second residual block, or by a convolution, or by something without tensors.
    """
    numbers = {way: sorted({int(at[2]) for at in map(_BLOCK.match, shapes) if at and at[1] == way}) for way in _WAYS}
    ups = numbers["output"]
    if not ups or ups != list(range(len(ups))):
        raise NotTheFamilyError("its output_blocks are not numbered from 0")
    by_blocks = [up for up in ups if any(f"output_blocks.{up}.{at}.in_layers.2.weight" in shapes for at in (1, 2))]
    by_convs = [up for up in ups if any(f"output_blocks.{up}.{at}.conv.weight" in shapes for at in (1, 2))]
    gaps = sorted(set(range(len(ups))) - set(numbers["input"]))  # stages down without tensors: means of 2 x 2 pixels
    # the first stage of `stride` on the way up, and the first stage down after `stride - 1` blocks and the first one
    stride = by_blocks[0] + 1 if by_blocks else by_convs[0] + 1 if by_convs else gaps[0] if gaps else len(ups)
    if stride < 2 or len(ups) % stride:
        raise NotTheFamilyError(f"its {len(ups)} output_blocks are not levels of {stride} each")
    changes = {"resblock_updown": bool(by_blocks) or len(ups) == stride}
    if not changes["resblock_updown"]:
        changes["conv_resample"] = bool(by_convs)
    return len(ups) // stride, stride - 1, changes


def _width(shapes: Shapes, stage: int) -> int:
    name = f"input_blocks.{stage}.0.out_layers.3.weight"
    if name not in shapes:
        raise NotTheFamilyError(f"it lacks {name}")
    return int(shapes[name][0])


def _scales(shapes: Shapes) -> bool:
    """Whether the time embedding scales and shifts (two numbers a channel), or is added (one)."""
    embedded, width = shapes.get("middle_block.0.emb_layers.1.bias"), shapes.get("middle_block.0.out_layers.3.bias")
    if embedded is None or width is None or embedded[0] not in (width[0], 2 * width[0]):
        raise NotTheFamilyError("its middle_block.0.emb_layers.1 is not as wide as its channels, or twice that")
    return bool(embedded[0] == 2 * width[0])


def _multiplier(width: int, channels: int) -> float:
    """A factor with int(factor x channels) = width, as short as there is one."""
    factor = width / channels
    return factor if int(factor * channels) == width else math.nextafter(factor, math.inf)
