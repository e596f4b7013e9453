"""Crops of the two photographs that scikit-learn ships."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import DataLocation, Dataset, DatasetInfo, LoadedDataset, PluginOptions, hash_contents

# the paper's process (eps, linear schedule, no labels) with a transformer that trains in minutes on a CPU
RECOMMENDED: dict[str, Any] = {
    "data": {"horizontal_flip": False},
    "model": {"backbone": "dit:patch_size=4,hidden_size=96,depth=4", "prediction": "eps", "conditional": False},
    "diffusion": {"schedule": "linear"},
    "optimizer": {"lr": 2e-3, "warmup_steps": 100, "decay": "cosine", "weight_decay": 0.0, "clip_grad_norm": 1.0},
    "ema": {"decay": 0.998},
    "training": {"steps": 2400, "batch_size": 128, "checkpoint_every": 500, "heldout_every": 800},
}

_CLASSES = ("china", "flower")
_HEIGHT, _WIDTH = 427 // 2, 640 // 2  # the size of the halved photographs
_BLOCK = 64
_HELDOUT_EVERY = 5
# shifted by two columns per row: a plain count would hold out one column, as a row has five blocks
_COLUMNS_A_ROW = 2
_LAYOUT = "2x2 means; blocks of 64; held out where (column + 2 row) % 5 == 0; all crops inside a block, v1"


class PatchSplit:
    """Crops of size x size pixels from `photos` (uint8 [P, C, H, W]), cut at every read.

    `positions` is int64 [N, 3]: photograph, top row and left column of each crop.
    """

    def __init__(self, photos: Tensor, positions: Tensor, *, size: int) -> None:
        self.photos = photos
        self.positions = positions
        self._windows = photos.unfold(2, size, 1).unfold(3, size, 1)  # a view: [P, C, rows, columns, size, size]

    def __len__(self) -> int:
        return self.positions.shape[0]

    def images(self, indices: Tensor) -> Tensor:
        """The crops at `indices`, uint8 [N, C, size, size]."""
        photo, row, column = self.positions[indices].unbind(1)
        return self._windows[photo, :, row, column]

    def labels(self, indices: Tensor) -> Tensor:
        """The photograph of each crop, int64 [N]."""
        return self.positions[indices, 0]


class PhotoPatches(Dataset):
    """Colour crops of the two photographs that scikit-learn ships (china.jpg and flower.jpg), halved in size.

    The photographs are divided into blocks of 64x64 pixels, of which every fifth is held out; the images are all crops
    that lie inside one block, so that no pixel is both trained on and held out. Labels are the photographs.
    """

    class Options(PluginOptions):
        """The options of photo-patches."""

        size: int = Field(16, ge=8, le=_BLOCK, description="height and width of a crop, in pixels")

    options: Options

    @property
    def size(self) -> int:
        """The height and width of a crop, in pixels."""
        return self.options.size

    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the facts, which are known without reading the photographs."""
        counts = {False: 0, True: 0}
        for heldout, rows, columns in self._blocks():
            counts[heldout] += len(_CLASSES) * len(rows) * len(columns)
        each = (counts[False] // len(_CLASSES),) * len(_CLASSES)
        return DatasetInfo(self.size, 3, _CLASSES, counts[False], counts[True], class_counts=each)

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings for a run of about three minutes on two CPU cores at the default size."""
        return RECOMMENDED

    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the photographs from scikit-learn's own files."""
        photos = halved_photos()
        splits = {
            heldout: PatchSplit(photos, self._positions(heldout=heldout), size=self.size) for heldout in (False, True)
        }
        content_hash = hash_contents(
            {"name": "photo-patches", "classes": _CLASSES, "size": self.size, "layout": _LAYOUT}, [photos]
        )
        return LoadedDataset(self.info(location), splits[False], splits[True], content_hash)

    def _blocks(self) -> Iterator[tuple[bool, range, range]]:
        """Yield (held out, top rows, left columns) of each block's crops in a photograph; edge blocks are smaller."""
        for i, top in enumerate(range(0, _HEIGHT, _BLOCK)):
            for j, left in enumerate(range(0, _WIDTH, _BLOCK)):
                rows = range(top, min(top + _BLOCK, _HEIGHT) - self.size + 1)
                columns = range(left, min(left + _BLOCK, _WIDTH) - self.size + 1)
                yield (j + _COLUMNS_A_ROW * i) % _HELDOUT_EVERY == 0, rows, columns

    def _positions(self, *, heldout: bool) -> Tensor:
        """The positions of the crops, int64 [N, 3], ordered by photograph, block, row and column."""
        return torch.cat(
            [
                torch.cartesian_prod(torch.tensor([photo]), torch.tensor(rows), torch.tensor(columns))
                for photo in range(len(_CLASSES))
                for block_heldout, rows, columns in self._blocks()
                if block_heldout == heldout and rows and columns
            ]
        )


def halved_photos() -> Tensor:
    """The photographs as means of 2x2 pixels, rounded half up, uint8 [2, 3, 213, 320]; the odd last row is dropped."""
    from sklearn.datasets import load_sample_images

    photos = torch.stack([torch.tensor(photo) for photo in load_sample_images().images])
    pixels = photos[:, : 2 * _HEIGHT, : 2 * _WIDTH].to(torch.int32)
    sums = pixels.reshape(2, _HEIGHT, 2, _WIDTH, 2, 3).sum(dim=(2, 4), dtype=torch.int32)
    return ((sums + 2) // 4).to(torch.uint8).permute(0, 3, 1, 2).contiguous()
