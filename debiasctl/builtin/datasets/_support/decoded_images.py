"""Decoding all images of a folder once, and caching them as a memory-mapped array if it is small enough."""

import hashlib
import json
import logging
import lzma
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock
from torch import Tensor

from debiasctl.api import DataError, atomic_folder, num_cores, writing
from debiasctl.builtin.datasets._support.image_decoding import UnreadableImageError, decode
from debiasctl.builtin.datasets._support.image_files import ImageFile, ImageSource
from debiasctl.builtin.datasets._support.image_layout import Layout
from debiasctl.builtin.datasets._support.image_table import without

logger = logging.getLogger(__name__)

MAX_DECODED_BYTES = 4 * 2**30  # larger sets are decoded at every read
_THREADS = 16  # the most decoding threads
_CHUNK = 256  # images decoded but not yet written
_BATCH = 16  # images that a thread takes at once: handing over one small image costs as much as decoding it
_LABELS = 10_000  # labels written at once
_SHOWN = 3  # unreadable files named in a message

Result = TypeVar("Result")
# errors that a broken file, or a broken member of a zip, raises while it is read or decoded
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Contents:
    """The facts about a folder's images that are known after decoding all of them."""

    image_size: int
    channels: int
    num_train: int
    num_heldout: int
    skipped: tuple[str, ...]
    content_hash: str


@dataclass(frozen=True)
class DecodingSplit:
    """A split whose images are decoded at every read."""

    source: ImageSource
    files: Sequence[ImageFile]
    targets: Tensor | None
    image_size: int
    channels: int

    def __len__(self) -> int:
        return len(self.files)

    def images(self, indices: Tensor) -> Tensor:
        """Decode the images at `indices`, uint8 [N, C, H, W].

        Raises:
            DataError: if a file that was readable before is no longer readable.
        """
        files = [self.files[index] for index in indices.tolist()]
        pixels = torch.empty(len(files), self.channels, self.image_size, self.image_size, dtype=torch.uint8)
        unreadable = []
        read = partial(decode, size=self.image_size, channels=self.channels)
        for row, result in zip(pixels.numpy(), each_file(self.source, files, read), strict=True):
            if isinstance(result, Unreadable):
                unreadable.append(result)
            else:
                row[...] = result
        check_readable(self.source, unreadable, len(files))
        return pixels

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


def read_contents(folder: Path) -> Contents | None:
    """Read the stored contents of images decoded earlier, or return None if there are none.

    Raises:
        DataError: if they are damaged.
    """
    path = folder / "contents.json"
    try:
        raw = json.loads(path.read_bytes())
        return Contents(**{**raw, "skipped": tuple(raw["skipped"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(folder, error) from error


def read_array(folder: Path, contents: Contents) -> Tensor | None:
    """Map the array of all images, uint8 [N, C, H, W], training images first; None if they were too many to store.

    Raises:
        DataError: if it is damaged.
    """
    path = folder / "images.npy"
    if not path.exists():
        return None
    size = contents.image_size
    num_images = contents.num_train + contents.num_heldout
    try:
        array = np.load(path, mmap_mode="c")[:num_images]
    except (OSError, ValueError) as error:
        raise _damaged(folder, error) from error
    if array.shape != (num_images, contents.channels, size, size) or array.dtype != np.uint8:
        raise _damaged(folder, ValueError(f"shape {array.shape} of {array.dtype}"))
    return torch.from_numpy(array)


def decode_all(
    folder: Path, source: ImageSource, layout: Layout, *, image_size: int, channels: int, skip_unreadable: bool
) -> None:
    """Decode every image and write the files for `read_contents` and `read_array`, unless they exist.

    Folders beside `folder` that were written for earlier states of the same images are removed.

    Raises:
        DataError: if files cannot be read and `skip_unreadable` is not set, or too few can be read.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent.with_name(f".{folder.parent.name}.lock")):
        if folder.exists():
            return
        with writing(folder):
            for earlier in folder.parent.iterdir():
                shutil.rmtree(earlier)
        logger.info("decoding %d images of %s", len(layout.train) + len(layout.heldout), source.path)
        with atomic_folder(folder) as temporary:
            contents = _write(
                temporary, source, layout, image_size=image_size, channels=channels, skip_unreadable=skip_unreadable
            )
            (temporary / "contents.json").write_text(json.dumps(asdict(contents)))


def each_file(
    source: ImageSource, files: Sequence[ImageFile], read: Callable[[IO[bytes]], Result]
) -> Iterator[Result | Unreadable]:
    """Yield `read(stream)` for each file in order, computed by several threads, or Unreadable if it fails."""

    def attempt(file: ImageFile) -> Result | Unreadable:
        try:
            with source.open(file.name) as stream:
                return read(stream)
        except UnreadableImageError as error:
            return Unreadable(file.name, str(error))
        except _UNREADABLE as error:
            return Unreadable(file.name, getattr(error, "strerror", None) or str(error))

    def attempt_all(batch: Sequence[ImageFile]) -> list[Result | Unreadable]:
        return [attempt(file) for file in batch]

    workers = num_cores(at_most=_THREADS)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start in range(0, len(files), _CHUNK):
            chunk = files[start : start + _CHUNK]
            size = min(_BATCH, -(-len(chunk) // workers))  # small training batches should occupy all threads too
            batches = [chunk[first : first + size] for first in range(0, len(chunk), size)]
            for results in pool.map(attempt_all, batches):
                yield from results


def check_readable(source: ImageSource, unreadable: Sequence[Unreadable], num_files: int) -> None:
    """Raise DataError, naming the first few, if there are unreadable files."""
    if unreadable:
        named = "; ".join(f"{file.name} ({file.reason})" for file in unreadable[:_SHOWN])
        more = f"; and {len(unreadable) - _SHOWN} more" if len(unreadable) > _SHOWN else ""
        raise DataError(
            f"{len(unreadable)} of {num_files} images in {source.path} cannot be read: {named}{more}. "
            f"Repair or remove them, or leave them out: folder:path={source.path},skip_unreadable=true"
        )


def _write(
    folder: Path, source: ImageSource, layout: Layout, *, image_size: int, channels: int, skip_unreadable: bool
) -> Contents:
    num_files = len(layout.train) + len(layout.heldout)
    shape = (num_files, channels, image_size, image_size)
    array: npt.NDArray[np.uint8] | None = None
    if int(np.prod(shape, dtype=np.int64)) <= MAX_DECODED_BYTES:
        array = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    digest = hashlib.sha256()
    unreadable: list[Unreadable] = []
    num_readable = []
    num_kept = 0
    for files in (layout.train, layout.heldout):
        for result in each_file(source, files, partial(decode, size=image_size, channels=channels)):
            if isinstance(result, Unreadable):
                unreadable.append(result)
                continue
            digest.update(result.tobytes())
            if array is not None:
                array[num_kept] = result
            num_kept += 1
        num_readable.append(num_kept)
    if not skip_unreadable:
        check_readable(source, unreadable, num_files)
    skipped = tuple(file.name for file in unreadable)
    num_train = num_readable[0]
    num_heldout = num_kept - num_train
    if not num_train or not num_heldout:
        raise DataError(
            f"{source.path}: without the {len(skipped)} unreadable images, {num_train} remain to train on and "
            f"{num_heldout} to hold out. Repair some of them"
        )
    # the pixels and everything else that defines the set, without paths and file names except skipped ones
    train, heldout = (without(files, skipped) for files in (layout.train, layout.heldout))
    rest = [image_size, channels, num_train, num_heldout, skipped]
    for text in (
        f"[{json.dumps(layout.classes)}, ",
        *_labels_json(layout, train, heldout),
        f", {json.dumps(rest)[1:]}",
    ):
        digest.update(text.encode())
    return Contents(image_size, channels, num_train, num_heldout, skipped, digest.hexdigest())


def _labels_json(layout: Layout, *splits: Sequence[ImageFile]) -> Iterator[str]:
    """Yield `json.dumps` of the list of all images' labels in parts, since there can be many millions."""
    if not layout.classes:
        yield "null"
        return
    before = "["
    for files in splits:
        for start in range(0, len(files), _LABELS):
            part = layout.labels(files[start : start + _LABELS])
            yield before + json.dumps(part)[1:-1]
            before = ", "
    yield "]"


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(f"the cached images in {folder} are damaged ({error}). Remove that folder: it is made again")
