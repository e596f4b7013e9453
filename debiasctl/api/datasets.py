"""Data sets: images to train on."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DataLocation:
    """Where a data set's files may lie: `data_dir` as the user gave it, `cache_dir` for downloads of our own."""

    data_dir: Path | None
    cache_dir: Path


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before its images are read. Images are square, `classes` is empty without labels.

    `value_type` says what `Split.images` gives: uint8, or float32 in [-1, 1].
    """

    image_size: int
    channels: int
    classes: tuple[str, ...]
    num_train: int
    num_heldout: int
    value_type: Literal["uint8", "float32"] = "uint8"


class Split(Protocol):
    """Images that can be read by index, in any order, any number of times.

    Training reads in a thread of its own, one read at a time.
    """

    def __len__(self) -> int: ...

    def images(self, indices: "Tensor") -> "Tensor":
        """[N, C, H, W] for int64 `indices` [N] in [0, len): uint8, or float32 in [-1, 1] where the info says so.

        Training sees float32 images as they are. Evaluation rounds them to the 256 levels that samples are stored in.
        """
        ...

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """int64 [N] in [0, number of classes), or None for a data set without classes."""
        ...


@dataclass(frozen=True)
class ArraySplit:
    """A split held in memory: `array` uint8 or float32 [N, C, H, W], `targets` int64 [N] or None."""

    array: "Tensor"
    targets: "Tensor | None" = None

    def __len__(self) -> int:
        return self.array.shape[0]

    def images(self, indices: "Tensor") -> "Tensor":
        """[N, C, H, W] of the array's dtype."""
        return self.array[indices]

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


@dataclass(frozen=True)
class LoadedDataset:
    """A data set ready to read. `heldout` is never trained on; `content_hash` is a SHA-256 of images and labels.

    `debiasctl.api.hash_splits` makes such a hash.
    """

    info: DatasetInfo
    train: Split
    heldout: Split
    content_hash: str


class Dataset(Plugin):
    """Images to train on."""

    @abstractmethod
    def info(self, location: DataLocation) -> DatasetInfo:
        """Size, channels, classes and counts, as cheaply as can be; downloads nothing."""

    @abstractmethod
    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the images, downloading them where the set allows it.

        Raises:
            DataError: if the images cannot be read.
        """

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Run-spec settings (`{"training": {"steps": ...}, ...}`) that make `debiasctl train NAME` a sensible run."""
        return {}
