"""Samples of all arms from one noise: a row an arm, and the same noise down each column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from debiasctl.reporting.study_data import ArmStyle
from debiasctl.reporting.study_pictures import study_style
from debiasctl.reporting.style import WIDTHS, Width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS: dict[str, int] = {"column": 6, "page": 12}
_LARGEST = 64  # pixels of an image's side; larger ones are shown smaller
_BUDGET = 500_000  # bytes of pixels in a page's picture: PNG compresses photographs little
_NAME, _SPACE = 0.19, 0.05  # inches above and below a row


@dataclass(frozen=True)
class GridRow:
    """An arm's images, uint8 [N, H, W] or [N, H, W, 3], in the order of their noise; `note` follows its name."""

    arm: str
    images: Any
    note: str = ""


def draw_arm_grid(rows: Sequence[GridRow], arms: Sequence[ArmStyle], *, width: Width) -> "Figure":
    """Rows of images with the arms' names above them; as many columns as every arm has and the page holds.

    Raises:
        ValueError: if the arms' images differ in size.
    """
    from matplotlib.figure import Figure

    shapes = {row.images.shape[1:3] for row in rows}
    if len(shapes) > 1:
        raise ValueError("the arms' images differ in size")
    shown = [_shrunk(row.images[: _COLUMNS[width]]) for row in rows]
    side = shown[0].shape[1:3]
    most = max(3, _BUDGET // (len(rows) * side[0] * side[1] * 3))
    columns = min(_COLUMNS[width], most, *(len(images) for images in shown))
    gap = max(1, round(side[1] / 24))
    strip_width = columns * side[1] + (columns - 1) * gap
    inches = WIDTHS[width] * columns / max(columns, _COLUMNS[width] / 2)
    tall = inches * side[0] / strip_width
    height = len(rows) * (_NAME + tall + _SPACE)
    with study_style():
        figure = Figure(figsize=(WIDTHS[width], height))
        labels = {arm.name: arm.label for arm in arms}
        for number, (row, images) in enumerate(zip(rows, shown, strict=True)):
            top = 1 - (number * (_NAME + tall + _SPACE) + _NAME) / height
            axes = figure.add_axes((0, top - tall / height, inches / WIDTHS[width], tall / height))
            axes.imshow(_strip(images[:columns], gap), interpolation="none", aspect="auto")
            axes.axis("off")
            note = f"  {row.note}" if row.note else ""
            figure.text(0, top + 0.045 / height, f"{labels[row.arm]}{note}", va="bottom", fontsize=7.5)
        return figure


def _strip(images: Any, gap: int) -> Any:
    """uint8 [H, W', 4]: images side by side, with nothing between them, whatever the page's colour is."""
    count, height, width = images.shape[:3]
    strip = np.zeros((height, count * width + (count - 1) * gap, 4), dtype=np.uint8)
    for index, image in enumerate(images):
        start = index * (width + gap)
        strip[:, start : start + width, :3] = image if image.ndim == 3 else image[:, :, None]
        strip[:, start : start + width, 3] = 255
    return strip


def _shrunk(images: Any) -> Any:
    """Images of a side of at most 64 pixels."""
    images = np.asarray(images)
    images = images[..., 0] if images.ndim == 4 and images.shape[-1] == 1 else images
    longest = max(images.shape[1:3])
    if longest <= _LARGEST:
        return images
    from PIL import Image

    size = tuple(max(1, round(side * _LARGEST / longest)) for side in (images.shape[2], images.shape[1]))
    return np.stack([np.asarray(Image.fromarray(one).resize(size, Image.Resampling.LANCZOS)) for one in images])
