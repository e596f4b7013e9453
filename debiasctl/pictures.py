"""Images as files: one PNG each, or one grid."""

import math
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from debiasctl.errors import UsageError
from debiasctl.files import atomic_file, atomic_folder

_TILE = 48  # px: small images are enlarged by a whole factor to about this size in a grid


def save_grid(path: Path, images: Tensor, *, columns: int | None = None) -> None:
    """One PNG of uint8 [N, C, H, W], row by row, small images enlarged by a whole factor without smoothing."""
    grid = make_grid(images, columns=columns)
    with atomic_file(path) as stream:
        _image(grid).save(stream, format="PNG")


def make_grid(images: Tensor, *, columns: int | None = None) -> Tensor:
    """uint8 [C, H', W'] of all images with a white margin between them."""
    count, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    factor = max(1, round(_TILE / height))
    margin = 2
    tiles = images.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    tile_height, tile_width = height * factor + margin, width * factor + margin
    grid = torch.full((channels, rows * tile_height + margin, columns * tile_width + margin), 255, dtype=torch.uint8)
    for index, tile in enumerate(tiles):
        top, left = margin + index // columns * tile_height, margin + index % columns * tile_width
        grid[:, top : top + tile.shape[1], left : left + tile.shape[2]] = tile
    return grid


def save_folder(path: Path, images: Tensor, labels: Tensor | None, *, classes: tuple[str, ...]) -> None:
    """A new folder of PNGs named by index, in a subfolder per class where there are labels.

    Raises:
        UsageError: the folder exists already and holds something.
    """
    if path.exists():
        if not path.is_dir() or any(path.iterdir()):
            raise UsageError(f"{path} exists and is not empty. Choose another --out, or remove it first")
        path.rmdir()
    width = len(str(len(images) - 1))
    with atomic_folder(path) as folder:
        for index, image in enumerate(images):
            place = folder if labels is None else folder / _safe(classes[int(labels[index])])
            place.mkdir(exist_ok=True)
            _image(image).save(place / f"{index:0{width}d}.png")


def _image(image: Tensor) -> Image.Image:
    array = image.permute(1, 2, 0).numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def _safe(name: str) -> str:
    """A class name as a folder's name."""
    return "".join(mark if mark.isalnum() or mark in "-_. " else "_" for mark in name).strip(". ") or "_"
