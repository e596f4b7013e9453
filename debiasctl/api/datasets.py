"""Data sets: images to train on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DataLocation:
    """Where a data set's files may lie: `data_dir` as the user gave it, `cache_dir` for downloads of our own."""

    data_dir: Path | None
    cache_dir: Path


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before its images are read. Images are square, `classes` is empty without labels."""

    image_size: int
    channels: int
    classes: tuple[str, ...]
    num_train: int
    num_heldout: int


class Split(Protocol):
    """Images that can be read by index, in any order, any number of times.

    Training reads in a thread of its own, one read at a time.
    """

    def __len__(self) -> int: ...

    def images(self, indices: "Tensor") -> "Tensor":
        """uint8 [N, C, H, W] for int64 `indices` [N] in [0, len)."""
        ...

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """int64 [N] in [0, number of classes), or None for a data set without classes."""
        ...


@dataclass(frozen=True)
class ArraySplit:
    """A split held in memory: `array` uint8 [N, C, H, W], `targets` int64 [N] or None."""

    array: "Tensor"
    targets: "Tensor | None" = None

    def __len__(self) -> int:
        return self.array.shape[0]

    def images(self, indices: "Tensor") -> "Tensor":
        """uint8 [N, C, H, W]."""
        return self.array[indices]

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


@dataclass(frozen=True)
class LoadedDataset:
    """A data set ready to read. `heldout` is never trained on; `content_hash` is a SHA-256 of images and labels."""

    info: DatasetInfo
    train: Split
    heldout: Split
    content_hash: str


@runtime_checkable
class Dataset(Protocol):
    """Images to train on."""

    def info(self, location: DataLocation) -> DatasetInfo:
        """Size, channels, classes and counts, as cheaply as can be; downloads nothing."""
        ...

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Run-spec settings (`{"training": {"steps": ...}, ...}`) that make `debiasctl train NAME` a sensible run."""
        ...

    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the images, downloading them where the set allows it; raises DataError where it cannot."""
        ...
