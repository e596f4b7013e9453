"""STL-10."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from debiasctl.api import DataError
from debiasctl.builtin.datasets._support.array_sets import TRAIN, ArraySet, ArraySetOptions

_SIZE = 96
_BYTES = 3 * _SIZE * _SIZE  # of an image


class STL10(ArraySet):
    """Colour photographs of 96x96 pixels (Coates et al., 2011): 5,000 in ten classes, 8,000 held out, 100,000 without.

    The files are read from the data folder (DEBIASCTL_DATA) or the cache in torchvision's layout (stl10_binary), or
    else unpacked from stl10_binary.tar.gz or downloaded into the cache. With train_on=unlabeled the 100,000 images
    without classes are trained on, and with train_on=all these and the 5,000; the set has no classes then. Images of
    96 pixels stay on the disk. Every file's MD5 is checked before it is read.
    """

    class Options(ArraySetOptions):
        """The options of stl10."""

        train_on: Literal["train", "unlabeled", "all"] = Field(
            "train", description="train: the 5,000 images with classes; unlabeled: the 100,000 without; all: both"
        )

    options: Options

    title, name, base, archive, size = "STL-10", "stl10", "stl10_binary", "stl10_binary.tar.gz", _SIZE
    torchvision_name = "STL10"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, if all training images have one."""
        names = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
        return names if self.options.train_on == "train" else ()

    @property
    def published(self) -> tuple[int, int]:
        """The published numbers of images."""
        return {"train": 5_000, "unlabeled": 100_000, "all": 105_000}[self.options.train_on], 8_000

    def files(self) -> list[tuple[str, str]]:
        """List the files that are read."""
        sums = dict([*self.torchvision.train_list, *self.torchvision.test_list])
        return [(name, sums[name]) for part in (TRAIN, "") for name in self._images(part) + self._labels(part)]

    def count(self, folder: Path, part: str) -> int:
        """Count the images by the files' sizes."""
        return sum((folder / name).stat().st_size // _BYTES for name in self._images(part))

    def read(self, folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any] | None]:
        """Map binary files of images, columns first, and read classes from 1."""
        images = [_mapped(folder / name) for name in self._images(part)]
        labels = [np.fromfile(folder / name, dtype=np.uint8).astype(np.int64) - 1 for name in self._labels(part)]
        return images[0] if len(images) == 1 else np.concatenate(images), labels[0] if labels else None

    def _images(self, part: str) -> list[str]:
        if part != TRAIN:
            return ["test_X.bin"]
        return {
            "train": ["train_X.bin"],
            "unlabeled": ["unlabeled_X.bin"],
            "all": ["train_X.bin", "unlabeled_X.bin"],
        }[self.options.train_on]

    def _labels(self, part: str) -> list[str]:
        if not self.classes:
            return []
        return ["train_y.bin" if part == TRAIN else "test_y.bin"]


def _mapped(path: Path) -> npt.NDArray[np.uint8]:
    size = path.stat().st_size
    if not size or size % _BYTES:
        raise DataError(f"{path} has {size:,} bytes, which is no number of images of {_BYTES:,} bytes. Fetch it again")
    # copy-on-write, because torch has no tensors that cannot be written
    array = np.memmap(path, dtype=np.uint8, mode="c").reshape(-1, 3, _SIZE, _SIZE)
    return array.transpose(0, 1, 3, 2)
