"""Writing images as files: one PNG each, a grid, or a grid with names on rows and columns, still or animated."""

import math
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

from debiasctl.files import atomic_file, atomic_folder, check_new_folder
from debiasctl.reporting.labelled import PICTURES as PICTURES
from debiasctl.reporting.labelled import LabelledGrid, Tile, is_vector, save_picture

_TILE = 48  # px: small images are enlarged by a whole factor to about this size in a grid
_MARGIN = 2  # px
_LONGEST = 60  # letters of a folder's name, of at most 4 bytes each
_TEXT = 13  # px
_FRAME_MS, _LAST_FRAME_MS = 120, 2000


def save_grid(
    path: Path,
    images: Tensor,
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    scale: int | None = None,
) -> None:
    """Write uint8 [N, C, H, W] row by row as one picture in the format of the path's ending, one of PICTURES.

    Images are enlarged by the whole factor `scale`, or by default to about 48 pixels, without smoothing; `labels` gives
    a name below each image.
    """
    if labels is None and not is_vector(path):
        save_picture(path, _image(make_grid(images, columns=columns, scale=scale)))
        return
    count = columns or math.ceil(math.sqrt(len(images)))
    rows = [list(images[start : start + count]) for start in range(0, len(images), count)]
    names = None if labels is None else [labels[start : start + count] for start in range(0, len(images), count)]
    labelled_grid(rows, row_names=[""] * len(rows), below=names, scale=scale).save(path)


def make_grid(images: Tensor, *, columns: int | None = None, scale: int | None = None) -> Tensor:
    """Arrange all images with a white margin between them, as uint8 [C, H', W']."""
    from torchvision.utils import make_grid as tile  # takes seconds to import

    channels = images.shape[1]
    tiles = _enlarged(images, scale)
    if len(tiles) == 1:  # make_grid returns a single image without a margin
        return pad(tiles[0], [_MARGIN] * 4, value=255)
    grid: Tensor = tile(tiles, nrow=columns or math.ceil(math.sqrt(len(tiles))), padding=_MARGIN, pad_value=255)
    return grid[:channels]  # make_grid turns grey into RGB


def save_gif(path: Path, frames: Sequence[LabelledGrid]) -> None:
    """Write `labelled_grid`s as a looping GIF that pauses on the last frame."""
    durations = [_FRAME_MS] * (len(frames) - 1) + [_LAST_FRAME_MS]
    first, *others = (frame.drawn() for frame in frames)
    with atomic_file(path) as stream:
        first.save(stream, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)


def labelled_grid(
    rows: Sequence[Sequence[Tensor]],
    *,
    row_names: Sequence[str],
    column_names: Sequence[str] = (),
    caption: str = "",
    group: int = 0,
    below: Sequence[Sequence[str]] | None = None,
    scale: int | None = None,
) -> LabelledGrid:
    """Lay out rows of uint8 images [C, H, W] of one shape on white, with a name left of each row and above each column.

    A wider gap follows every `group` rows; `caption` stands above the row names; `below` gives a name for each image.
    Images are enlarged by the whole factor `scale`, by default to about 48 pixels.
    """
    from PIL import ImageFont

    channels, height, width = rows[0][0].shape
    factor, font = scale or _factor(height), ImageFont.load_default(size=_TEXT)
    line = _TEXT + 2 * _MARGIN
    step_x, step_y = width * factor + _MARGIN, height * factor + _MARGIN + line * bool(below)
    beside = [*row_names, caption] if column_names else row_names
    widest = math.ceil(max(map(font.getlength, beside)))
    left = widest + 4 * _MARGIN if widest else _MARGIN
    # a column is at least as wide as its names, so that neighbouring names do not overlap
    names = [*column_names, *(name for row in below or () for name in row)]
    step_x = max([step_x, *(math.ceil(font.getlength(name)) + 3 * _MARGIN for name in names)])
    top = _MARGIN + line * bool(caption or column_names)
    tops = [top + row * step_y + (row // group * 4 * _MARGIN if group else 0) for row in range(len(rows))]
    size = (max(left + step_x * len(rows[0]), math.ceil(font.getlength(caption)) + 2 * _MARGIN), tops[-1] + step_y)
    grid = LabelledGrid(size, grey=channels == 1, letter=_TEXT)
    if caption:
        x, anchor = (left - 2 * _MARGIN, "ra") if column_names else (_MARGIN, "la")
        grid.write(x, top - line, caption, anchor)
    for column, name in enumerate(column_names):
        grid.write(left + column * step_x + width * factor // 2, top - line, name, "ma")
    for number, (row, name, y) in enumerate(zip(rows, row_names, tops, strict=True)):
        if name:
            grid.write(left - 2 * _MARGIN, y + height * factor // 2, name, "rm")
        for column, image in enumerate(row):
            x = left + column * step_x
            grid.tiles.append(Tile(x, y, factor, _array(image)))
            if below is not None:
                grid.write(x + width * factor // 2, y + height * factor, below[number][column], "ma")
    return grid


def save_folder(
    path: Path, images: Iterable[Tensor], labels: Tensor | None, *, num: int, classes: tuple[str, ...]
) -> None:
    """Write `num` images, uint8 [C, H, W], to a new folder as PNGs named by index, a subfolder per class if labelled.

    Raises:
        UsageError: if the folder already exists and is not empty.
    """
    check_new_folder(path, argument="out")
    if path.exists():
        path.rmdir()
    width = len(str(num - 1))
    names = _folder_names(classes)
    with atomic_folder(path) as folder:
        for index, image in enumerate(images):
            place = folder if labels is None else folder / names[int(labels[index])]
            place.mkdir(exist_ok=True)
            _image(image).save(place / f"{index:0{width}d}.png")


def _factor(height: int) -> int:
    """The factor by which images of this height are enlarged."""
    return max(1, round(_TILE / height))


def _enlarged(images: Tensor, scale: int | None = None) -> Tensor:
    """Enlarge images to [..., H', W'] without smoothing."""
    factor = scale or _factor(images.shape[-2])
    return images.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)


def _image(image: Tensor) -> Image.Image:
    return Image.fromarray(_array(image))


def _array(image: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """[H, W] or [H, W, 3], as PIL has images."""
    array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = image.permute(1, 2, 0).numpy()
    return array[:, :, 0] if array.shape[2] == 1 else array


def _folder_names(classes: Sequence[str]) -> list[str]:
    """A folder name for each class, different from all others even where upper and lower case are the same.

    A class whose name needs no change keeps it; another that would share one gets a number.
    """
    names, taken = list(map(_safe, classes)), set[str]()
    for index in sorted(range(len(names)), key=lambda index: (names[index] != classes[index], index)):
        name, number = names[index], 2
        while _folded(name) in taken:
            name, number = f"{names[index]}_{number}", number + 1
        names[index] = name
        taken.add(_folded(name))
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _safe(name: str) -> str:
    """Turn a class name into a folder name of at most 60 letters."""
    safe = "".join(mark if mark.isalnum() or mark in "-_. " else "_" for mark in name)
    return safe.strip(". ")[:_LONGEST].strip(". ") or "_"
