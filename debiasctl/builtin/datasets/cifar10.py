"""CIFAR-10."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debiasctl.api import DataLocation, DatasetInfo
from debiasctl.builtin.datasets._support.array_sets import TRAIN, ArraySet, SizeOptions
from debiasctl.builtin.datasets._support.cifar_pickles import read_arrays

# The published setup of arXiv 2310.08442 on CIFAR-10.
RECOMMENDED: dict[str, Any] = {
    "data": {"horizontal_flip": True},
    "model": {
        "backbone": {"name": "unet", "options": {"channels": 128, "channel_mult": [1, 2, 2, 2]}},
        "prediction": "eps",
        "conditional": True,
        "learned_variance": True,
    },
    "diffusion": {"schedule": "linear"},
    "optimizer": {"lr": 2e-5, "warmup_steps": 0, "decay": "none", "weight_decay": 0.0, "clip_grad_norm": None},
    "ema": {"decay": 0.9999, "warmup": False},
    "training": {"steps": 500_000, "batch_size": 32, "checkpoint_every": 10_000, "heldout_every": 10_000},
}


class CIFAR10(ArraySet):
    """60,000 colour photographs of 32x32 pixels in ten classes (Krizhevsky, 2009): 50,000 to train on, 10,000 held out.

    The files are read from the data folder (DEBIASCTL_DATA) or the cache in torchvision's layout (cifar-10-batches-py),
    or else unpacked from cifar-10-python.tar.gz or downloaded into the cache. Every file's MD5 is checked before it is
    read.
    """

    class Options(SizeOptions):
        """The options of cifar10."""

    options: Options

    title, name, base, archive, size = "CIFAR-10", "cifar10", "cifar-10-batches-py", "cifar-10-python.tar.gz", 32
    torchvision_name = "CIFAR10"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    published = 50_000, 10_000

    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the published facts, without reading anything."""
        size, channels = self._format
        counts = (5_000,) * len(self.classes)
        return DatasetInfo(size, channels, self.classes, *self.published, class_counts=counts)

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """At 32 pixels, the published setup of arXiv 2310.08442."""
        return RECOMMENDED if self.options.image_size in (None, 32) else super().recommended(location)

    def files(self) -> list[tuple[str, str]]:
        """List the batches and the file of the classes' names."""
        source = self.torchvision
        batches = [(name, md5) for name, md5 in [*source.train_list, *source.test_list]]
        return [*batches, (source.meta["filename"], source.meta["md5"])]

    def count(self, folder: Path, part: str) -> int:
        """The published number, since no other files are read."""
        return self.published[part != TRAIN]

    def read(self, folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any] | None]:
        """Read the pickles of a part."""
        source = self.torchvision
        names = [name for name, _ in (source.train_list if part == TRAIN else source.test_list)]
        images, labels = zip(*(read_arrays(folder / name, labels="labels") for name in names), strict=True)
        return np.concatenate(images), np.concatenate(labels)

    def _description(self, channels: int, size: int) -> dict[str, Any]:
        if (channels, size) == (3, 32):  # as before there were other sizes
            return {"name": self.name, "classes": self.classes}
        return super()._description(channels, size)
