"""Data sets: images to train on."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from debiasctl.api.checks import ImageProblem
from debiasctl.api.densities import GaussianMixture
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DataLocation:
    """Where a data set's files may be: `data_dir` as the user gave it, and `cache_dir` for downloads."""

    data_dir: Path | None
    cache_dir: Path


@dataclass(frozen=True)
class DatasetInfo:
    """The facts about a data set known before its images are read.

    Images are square; `classes` is empty if there are no labels. `value_type` is the dtype that `Split.images` returns:
    uint8, or float32 in [-1, 1]. `class_counts` are the training images of each class, empty if they are not known yet.
    """

    image_size: int
    channels: int
    classes: tuple[str, ...]
    num_train: int
    num_heldout: int
    value_type: Literal["uint8", "float32"] = "uint8"
    class_counts: tuple[int, ...] = ()


class Split(Protocol):
    """Images that can be read by index, in any order, any number of times.

    Training reads in a thread of its own, one read at a time.
    """

    def __len__(self) -> int: ...

    def images(self, indices: "Tensor") -> "Tensor":
        """Read images [N, C, H, W] at int64 `indices` [N] in [0, len): uint8, or float32 in [-1, 1] if `info` says so.

        Training uses float32 images as they are. Evaluation rounds them to the 256 levels that samples are stored in.
        """
        ...

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """Return the labels, int64 [N] in [0, number of classes), or None for a data set without classes."""
        ...


@dataclass(frozen=True)
class ArraySplit:
    """A split held in memory: `array` uint8 or float32 [N, C, H, W], `targets` int64 [N] or None."""

    array: "Tensor"
    targets: "Tensor | None" = None

    def __len__(self) -> int:
        return self.array.shape[0]

    def images(self, indices: "Tensor") -> "Tensor":
        """Return the images [N, C, H, W] at `indices`, in the array's dtype."""
        return self.array[indices]

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """Return the labels at `indices`, int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


class FilesIdentity(Protocol):
    """The identity of a data set that is too large to be read before a training starts.

    `hash` is "files:" and a SHA-256 of its files' names, sizes and times, and of the options that determine the images.
    """

    @property
    def hash(self) -> str:
        """The hash of the files."""
        ...

    def content_hash(self) -> str | None:
        """Return the SHA-256 of images and labels, or None until all images have been read.

        Once all training images have been read, it may read those of the held-out ones that have not been.
        """
        ...

    def read_all(self) -> Sequence[str]:
        """Read all images, and return the SHA-256 of images and labels, with others that runs may know them by.

        Raises:
            DataError: if an image cannot be read, or has changed since it was first read.
        """
        ...


@dataclass(frozen=True)
class LoadedDataset:
    """A data set that is ready to read.

    `heldout` is never trained on; `content_hash` is a SHA-256 of images and labels, as `debiasctl.api.hash_splits`
    computes it. `density` is the law that the images were drawn from independently, where it is known: analyses then
    compare a network with the best denoiser that there is. `files` is given if the set may be known by its files:
    `content_hash` is `files.hash` then, until all images have been read.
    """

    info: DatasetInfo
    train: Split
    heldout: Split
    content_hash: str
    density: GaussianMixture | None = field(default=None, kw_only=True)
    files: FilesIdentity | None = field(default=None, kw_only=True)

    @property
    def lasting_hash(self) -> str:
        """The hash to store results on the images under; it stays the same when all images have been read."""
        return self.content_hash if self.files is None else self.files.hash


class Dataset(Plugin):
    """Images to train on."""

    @abstractmethod
    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the image size, channels, classes and counts, as cheaply as possible and without downloads."""

    @abstractmethod
    def load(self, location: DataLocation) -> LoadedDataset:
        """Load the data set, downloading its files if they are missing and it supports that.

        Raises:
            DataError: if the images cannot be read.
        """

    def problems(
        self, location: DataLocation, *, progress: Callable[[int, int], None]
    ) -> Iterator[ImageProblem] | None:
        """Yield what is wrong or unusual in the set's files; `progress` is called with the files done and all files.

        None, the default, is for a set without a file for each image, of which only the pixels are checked.

        Raises:
            DataError: if the files cannot be listed.
        """
        return None

    def stored_sizes(self, location: DataLocation) -> Counter[tuple[int, int]] | None:
        """Count the files' images by (width, height) before they are resized; None if there are no such files."""
        return None

    def bound_place(self) -> Path | None:
        """The folder or file that the options name the images by; None if the set is found by its own name.

        The default is the option `path`, if there is one and it is an absolute path.
        """
        path = getattr(self.options, "path", None)
        return Path(path) if isinstance(path, str) and Path(path).is_absolute() else None

    def options_at(self, place: Path) -> Mapping[str, Any]:
        """The options that change once the images of `bound_place` have moved to `place`: by default `path`."""
        return {"path": str(place)}

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Spec settings (`{"training": {"steps": ...}, ...}`) that make `debiasctl train NAME` a sensible run."""
        return {}
