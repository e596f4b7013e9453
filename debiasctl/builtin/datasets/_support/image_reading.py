"""Reading many image files by several threads, and reporting those that cannot be read."""

import logging
import struct
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from debiasctl.api import DataError, Pace, num_cores
from debiasctl.api.files import UNREADABLE, one_line
from debiasctl.builtin.datasets._support.folder_hints import FixableDataError
from debiasctl.builtin.datasets._support.image_decoding import ImageHeader, UnreadableImageError, decode, read_header
from debiasctl.builtin.datasets._support.image_files import ImageFile, ImageSource

_LOG = logging.getLogger(__name__)
_THREADS = 16  # the most decoding threads
_CHUNK = 256  # images decoded but not yet written
_BATCH = 16  # images that a thread takes at once: handing over one small image costs as much as decoding it
_SHOWN = 3  # unreadable files named in a message

Item = TypeVar("Item")
Result = TypeVar("Result")
# errors that a broken file, or a broken member of a zip, raises while it is read or decoded
_UNREADABLE = (struct.error, *(kind for kind in UNREADABLE if kind is not MemoryError))


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, with the reason; `kind` is it in a word or two."""

    name: str
    reason: str
    kind: str = "unreadable"


@dataclass(frozen=True)
class DecodingSplit:
    """A split whose images several threads decode at every read.

    `targets` is int64 [N] or None. `skippable` says that the data set can leave out unreadable files. `decode` takes a
    stream, and the size and channels to bring its image to.
    """

    source: ImageSource
    files: Sequence[ImageFile]
    targets: Tensor | None
    image_size: int
    channels: int
    skippable: bool
    decode: Callable[..., npt.NDArray[np.uint8]] = decode

    def __len__(self) -> int:
        return len(self.files)

    def images(self, indices: Tensor) -> Tensor:
        """Decode the images at `indices`, uint8 [N, C, H, W].

        Raises:
            DataError: if a file cannot be decoded.
        """
        files = [self.files[index] for index in indices.tolist()]
        read = partial(self.decode, size=self.image_size, channels=self.channels)
        shape = len(files), self.channels, self.image_size, self.image_size
        pixels, unreadable = gathered(each_file(self.source, files, read), shape)
        # a part of images that are measured says nothing of their number; a batch of a training is known by its size
        num_files = len(files) if self.skippable else None
        check_readable(self.source, unreadable, num_files, skippable=self.skippable)
        return pixels

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


def each_file(
    source: ImageSource, files: Sequence[ImageFile], read: Callable[[IO[bytes]], Result]
) -> Iterator[Result | Unreadable]:
    """Yield `read(stream)` for each file in order, computed by several threads, or Unreadable if it fails."""

    def attempt(file: ImageFile) -> Result | Unreadable:
        return attempted(lambda: source.open(file.name), read, name=file.name)

    return in_threads(files, attempt, where=source.path)


def attempted(
    open_stream: Callable[[], IO[bytes]], read: Callable[[IO[bytes]], Result], *, name: str
) -> Result | Unreadable:
    """What `read` makes of a stream, or Unreadable with the name if that fails."""
    try:
        with open_stream() as stream:
            return read(stream)
    except UnreadableImageError as error:
        return Unreadable(name, str(error), error.kind)
    except _UNREADABLE as error:
        kind = "truncated" if isinstance(error, EOFError) else "unreadable"
        return Unreadable(name, one_line(getattr(error, "strerror", None) or error), kind)


def in_threads(files: Sequence[Item], attempt: Callable[[Item], Result], *, where: object) -> Iterator[Result]:
    """Yield `attempt(file)` for each file in order, computed by several threads; the log names `where` they lie."""

    def attempt_all(batch: Sequence[Item]) -> list[Result]:
        return [attempt(file) for file in batch]

    workers, pace = num_cores(at_most=_THREADS), Pace()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            size = min(_BATCH, -(-len(chunk) // workers))  # small training batches should occupy all threads too
            batches = [chunk[first : first + size] for first in range(0, len(chunk), size)]
            for results in pool.map(attempt_all, batches):
                yield from results
            if pace.due():
                _LOG.info("%s: %d of %d images read", where, min(start + _CHUNK, len(files)), len(files))


def gathered(
    found: Iterable[npt.NDArray[np.uint8] | Unreadable], shape: tuple[int, int, int, int]
) -> tuple[Tensor, list[Unreadable]]:
    """Decoded images as a tensor of that shape, and those among them that could not be decoded."""
    pixels, unreadable = torch.empty(shape, dtype=torch.uint8), []
    for row, result in zip(pixels.numpy(), found, strict=True):
        if isinstance(result, Unreadable):
            unreadable.append(result)
        else:
            row[...] = result
    return pixels, unreadable


def first_few(unreadable: Sequence[Unreadable]) -> str:
    """Unreadable images for a message, with the reasons; only the first few are named."""
    named = "; ".join(f"{file.name} ({file.reason})" for file in unreadable[:_SHOWN])
    return named + (f"; and {len(unreadable) - _SHOWN} more" if len(unreadable) > _SHOWN else "")


def check_readable(
    source: ImageSource, unreadable: Sequence[Unreadable], num_files: int | None, *, skippable: bool
) -> None:
    """Raise DataError, naming the first few, if there are unreadable files; `skippable` as in `DecodingSplit`.

    `num_files` is the number of all files, or None where only some of them were read.
    """
    if unreadable:
        count = "" if num_files is None else f"{len(unreadable)} of {num_files} "
        problem = f"{count}images in {source.path} cannot be read: {first_few(unreadable)}. Repair or remove them"
        if not skippable:
            raise DataError(problem)
        raise FixableDataError(f"{problem}, or leave them out (skip_unreadable=true)", {"skip_unreadable": True})


@dataclass(frozen=True)
class Formats:
    """The formats of image files, from their headers, and the files that have no readable one.

    `shapes` has at most two (width, height), each with the first file of it; `smallest` is the shortest side. `lost`
    holds the share of each image that is not square that its middle square leaves out; `transparent` counts the images
    that may have transparent parts.
    """

    grey: bool
    smallest: int
    shapes: dict[tuple[int, int], str]
    unreadable: list[Unreadable]
    lost: "array[float]"
    transparent: int

    def differences(self) -> str:
        """Why the images have no common square size, with examples; only if they have none."""
        examples = ", ".join(f"{name} ({width}x{height})" for (width, height), name in self.shapes.items())
        return f"images {'have different sizes' if len(self.shapes) > 1 else 'are not square'}: {examples}"

    def common_size(self) -> int | None:
        """The side of all images, or None if they are not all square and of one size."""
        return self.smallest if list(self.shapes) == [(self.smallest, self.smallest)] else None


def read_formats(source: ImageSource, *parts: Sequence[ImageFile]) -> Formats:
    """Read the headers of all files; the images are grey if all are stored as grey."""
    return formats_of(
        (file.name, header)
        for files in parts
        for file, header in zip(files, each_file(source, files, read_header), strict=True)
    )


def formats_of(headers: Iterable[tuple[str, ImageHeader | Unreadable]]) -> Formats:
    """The formats of named images from their headers."""
    grey, smallest, transparent = True, sys.maxsize, 0
    unreadable: list[Unreadable] = []
    shapes: dict[tuple[int, int], str] = {}
    lost = array("f")
    for name, header in headers:
        if isinstance(header, Unreadable):
            unreadable.append(header)
            continue
        grey = grey and header.grey
        transparent += header.transparent
        smallest = min(smallest, header.width, header.height)
        if header.width != header.height:
            lost.append(1 - min(header.width, header.height) / max(header.width, header.height))
        if len(shapes) < 2:
            shapes.setdefault((header.width, header.height), name)
    return Formats(grey, smallest, shapes, unreadable, lost, transparent)
