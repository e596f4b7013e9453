"""Images whose files lie in shards or tables, and are reached by their number."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import IO, Any, Literal, Protocol, overload

import numpy as np
import numpy.typing as npt
import PIL
import torch
from torch import Tensor

from debiasctl.api import DataError, DatasetInfo, ImageProblem, LoadedDataset, content_key, spread_indices
from debiasctl.builtin.datasets._support import image_decoding
from debiasctl.builtin.datasets._support.folder_format import LOOKED_AT, size_and_channels, stated_format
from debiasctl.builtin.datasets._support.image_check import check_files, stored_sizes
from debiasctl.builtin.datasets._support.image_decoding import read_header
from debiasctl.builtin.datasets._support.image_layout import held_out
from debiasctl.builtin.datasets._support.image_reading import (
    Unreadable,
    attempted,
    first_few,
    formats_of,
    gathered,
    in_threads,
)
from debiasctl.builtin.datasets._support.image_table import ImageFile
from debiasctl.builtin.datasets._support.late_decoding import Assumed, Identify, is_late
from debiasctl.builtin.datasets._support.recorded_images import load_recorded

Rows = npt.NDArray[np.int64]
Mode = Literal["auto", "rgb", "grey"]


class ByteImages(Protocol):
    """Image files by number; `where` says in messages where they lie, as a path or a name."""

    where: str

    def openers(self, rows: Sequence[int]) -> Sequence[Callable[[], IO[bytes]]]:
        """A function for each image that opens it, and may be called in any thread."""
        ...

    def name(self, row: int) -> str:
        """What to call an image in a message."""
        ...


class Reading(Protocol):
    """The options that say how images are read, as `hf` and `webdataset` have them."""

    @property
    def image_size(self) -> int | None:
        """Height and width to resize images to, if they are stated."""
        ...

    @property
    def mode(self) -> Mode:
        """Whether images are read in colour."""
        ...

    @property
    def identify(self) -> Identify:
        """Whether all images are read before a training."""
        ...

    def model_dump(self, *, exclude: set[str]) -> dict[str, Any]:
        """All options of the data set."""
        ...


@dataclass(frozen=True)
class Parts:
    """The images of each split by number, and the class of every image, int64 [number of images]; None without."""

    train: Rows
    heldout: Rows
    classes: tuple[str, ...]
    labels: Rows | None

    def targets(self, rows: Rows) -> Tensor | None:
        """The labels of some images."""
        return None if self.labels is None else torch.from_numpy(self.labels[rows])


@dataclass(frozen=True)
class ByteSplit:
    """A split whose images several threads decode at every read."""

    source: ByteImages
    rows: Rows
    targets: Tensor | None
    image_size: int
    channels: int
    assumed: Assumed

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, indices: Tensor) -> Tensor:
        """Decode the images at `indices`, uint8 [N, C, H, W].

        Raises:
            DataError: if one cannot be decoded, or is not as others are.
        """
        read = partial(self.assumed.decode, size=self.image_size, channels=self.channels)
        shape = len(indices), self.channels, self.image_size, self.image_size
        pixels, unreadable = gathered(_each(self.source, self.rows[indices.numpy()], read), shape)
        _check(self.source, unreadable)
        return pixels

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return self.source.name(int(self.rows[index]))


def divided(
    source: ByteImages, places: npt.NDArray[np.float64], labels: Rows | None, *, fraction: float
) -> tuple[Rows, Rows]:
    """The images to train on, and a share of them that is held out by their places in [0, 1).

    Raises:
        DataError: if there are too few.
    """
    held = None
    if len(places) > 1:
        held = held_out(places, np.zeros(len(places), dtype=np.int64) if labels is None else labels, fraction=fraction)
    if held is None:
        few = "one image of each class" if len(places) > 1 else "only one image"
        raise DataError(f"{source.where} holds {few}, so none can be held out. Add images")
    return np.flatnonzero(~held), np.flatnonzero(held)


def check_parts(parts: Parts, *, train: str, heldout: str) -> None:
    """Check that both splits have images, and that each class that is held out is trained on.

    Raises:
        DataError: if not; `train` and `heldout` name what the splits are read from.
    """
    if not len(parts.train) or not len(parts.heldout):
        raise DataError(f"{heldout if len(parts.train) else train} holds no images")
    labels = parts.labels
    unknown = [] if labels is None else np.setdiff1d(labels[parts.heldout], labels[parts.train]).tolist()
    if unknown:
        raise DataError(f"{heldout} has the class {parts.classes[unknown[0]]}, of which {train} has no image. Add some")


def numbered(texts: npt.NDArray[np.str_]) -> tuple[tuple[str, ...], Rows]:
    """The classes that texts name, in their order, and the number of each; 007 and 7 are one class."""
    names, numbers = np.unique(texts, return_inverse=True)
    if not all(name.isdecimal() for name in names.tolist()):
        return tuple(names.tolist()), numbers.astype(np.int64)
    values = [int(name) for name in names.tolist()]
    places = {value: place for place, value in enumerate(sorted(set(values)))}
    merged = np.array([places[value] for value in values], dtype=np.int64)
    return tuple(map(str, places)), merged[numbers]


def info_of(source: ByteImages, parts: Parts, options: Reading) -> DatasetInfo:
    """The facts about images, some of whose headers are read if the size or the mode is not stated.

    Raises:
        UsageError: if they have no size in common, and none is stated.
        DataError: if one cannot be read.
    """
    stated = stated_format(options.image_size, options.mode)
    if stated is not None:
        size, channels = stated.image_size, stated.channels
    else:
        rows = np.concatenate([_spread(parts.train), _spread(parts.heldout)])
        headers = list(_each(source, rows, read_header))
        found = formats_of((source.name(row), header) for row, header in zip(rows.tolist(), headers, strict=True))
        _check(source, found.unreadable)
        size, channels = size_and_channels(found, source.where, image_size=options.image_size, mode=options.mode)
    counts: tuple[int, ...] = ()
    if parts.labels is not None:
        counts = tuple(np.bincount(parts.labels[parts.train], minlength=len(parts.classes)).tolist())
    return DatasetInfo(size, channels, parts.classes, len(parts.train), len(parts.heldout), class_counts=counts)


def load(
    source: ByteImages, parts: Parts, info: DatasetInfo, options: Reading, folder: Path, *, listing: Sequence[Any]
) -> LoadedDataset:
    """The data set of these images, which are kept below `folder` when they have been decoded.

    `listing` is what changes with the files, or with the options that determine the images; JSON can hold it.

    Raises:
        DataError: if images are read now, and one cannot be.
    """
    assumed = Assumed(
        info.image_size if options.image_size is None else None, grey=options.mode == "auto" and info.channels == 1
    )
    train, heldout = (
        ByteSplit(source, rows, parts.targets(rows), info.image_size, info.channels, assumed)
        for rows in (parts.train, parts.heldout)
    )
    late = is_late(info.num_train + info.num_heldout, channels=info.channels, image_size=info.image_size)
    at_once = options.identify == "content" or (options.identify == "auto" and not late)
    digest = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    folder /= content_key(options.model_dump(exclude={"identify"}))  # which changes no image
    folder /= content_key([image_decoding.VERSION, PIL.__version__, digest])
    return load_recorded(folder, info, train, heldout, files_hash=f"files:{digest}", at_once=at_once)


class AsFiles(Sequence[ImageFile]):
    """The images as files of a source, for what examines these; each has a name of its own."""

    def __init__(self, images: ByteImages, num: int) -> None:
        self.path, self.unreadable = Path(images.where), list[tuple[str, str]]()
        self._images, self._lock = images, Lock()
        self._rows: dict[str, int] = {}  # by name
        for row in range(num):
            name = images.name(row)
            self._rows[f"{name} (image {row:,})" if name in self._rows else name] = row
        self._names = list(self._rows)

    def open(self, name: str) -> IO[bytes]:
        """Open an image, in any thread."""
        with self._lock:
            (opener,) = self._images.openers([self._rows[name]])
        return opener()

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> ImageFile: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ImageFile]: ...

    def __getitem__(self, index: int | slice) -> ImageFile | Sequence[ImageFile]:
        if isinstance(index, slice):
            return [ImageFile(name, (1, 0)) for name in self._names[index]]
        return ImageFile(self._names[index], (1, 0))


def problems_of(images: ByteImages, num: int, progress: Callable[[int, int], None]) -> Iterator[ImageProblem]:
    """Decode every image, and yield what is wrong or unusual."""
    files: Any = AsFiles(images, num)
    return check_files(files, files, progress)


def sizes_of(images: ByteImages, num: int) -> Counter[tuple[int, int]]:
    """Count the (width, height) of the images that can be read, by their headers."""
    files: Any = AsFiles(images, num)
    return stored_sizes(files, files)


def _each(source: ByteImages, rows: Rows, read: Callable[[IO[bytes]], Any]) -> Any:
    def attempt(item: tuple[int, Callable[[], IO[bytes]]]) -> Any:
        row, opener = item
        found = attempted(opener, read, name="")
        return replace(found, name=source.name(row)) if isinstance(found, Unreadable) else found

    numbers = rows.tolist()
    return in_threads(list(zip(numbers, source.openers(numbers), strict=True)), attempt, where=source.where)


def _check(source: ByteImages, unreadable: Sequence[Unreadable]) -> None:
    if unreadable:
        raise DataError(f"images of {source.where} cannot be used: {first_few(unreadable)}")


def _spread(rows: Rows) -> Rows:
    """Some images, evenly spread."""
    some: Rows = rows[spread_indices(len(rows), LOOKED_AT).numpy()]
    return some
