"""Images that are decoded when they are first asked for, and known by their content once all of them have been."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from debiasctl.api import (
    ArraySplit,
    DataError,
    DatasetInfo,
    LoadedDataset,
    Pace,
    Split,
    made_once,
    write_json,
    writing,
)
from debiasctl.builtin.datasets._support import decoded_images
from debiasctl.builtin.datasets._support.decoded_images import CONTENTS, Contents, npy_header, read_array, read_contents

_LOG = logging.getLogger(__name__)
_HASH = 32  # bytes of a SHA-256
_PART = 256  # images read at once
_HASHES_AT_ONCE = 2**15
_LABELS = 10_000  # labels written at once
_IMAGES, _HASHES = "images.npy", "hashes"


class Records:
    """What was read of two splits' images: the SHA-256 of each one's pixels, and the pixels if they are few enough.

    They lie in a folder that several processes may write to, each whatever it reads. Images are numbered through both
    splits, training images first; a hash of zeros stands for an image that has not been read. A stored image that does
    not have its hash, since a machine went down while it was written, counts as not read.
    """

    def __init__(self, folder: Path, *, num: int, channels: int, image_size: int, stored: bool) -> None:
        self._folder, self._num, self._shape = folder, num, (channels, image_size, image_size)
        self._size = channels * image_size**2
        self.stored = stored
        self._images = self._hashes = -1
        self._start = 0  # of the pixels in their file
        self._open()

    def _open(self) -> None:
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._hashes = os.open(self._folder / _HASHES, os.O_RDWR | os.O_CREAT, 0o666)
            os.ftruncate(self._hashes, self._num * _HASH)  # sparse, and what it holds stays
            if not self.stored:
                return
            header = npy_header((self._num, *self._shape))
            self._start = len(header)
            self._images = os.open(self._folder / _IMAGES, os.O_RDWR | os.O_CREAT, 0o666)
            os.pwrite(self._images, header, 0)
            os.ftruncate(self._images, self._start + self._num * self._size)

    def __del__(self) -> None:
        for descriptor in (self._images, self._hashes):
            if descriptor >= 0:
                os.close(descriptor)

    def read(self, first: int, split: Split, indices: Tensor) -> Tensor:
        """The images of a split at `indices`, uint8 [N, C, H, W]; the split's first one has the number `first`.

        Raises:
            DataError: if one is not what it was when it was read before; and the errors of the split.
        """
        images = torch.empty(len(indices), *self._shape, dtype=torch.uint8)
        pixels = images.numpy()
        numbers = (indices + first).tolist()
        known = [os.pread(self._hashes, _HASH, number * _HASH) for number in numbers]
        missing = [row for row, number in enumerate(numbers) if not self._recalled(number, known[row], pixels[row])]
        if missing:
            images[missing] = split.images(indices[missing])
            with writing(self._folder):
                for row in missing:
                    self._record(numbers[row], known[row], pixels[row], split, int(indices[row]))
        return images

    def _recalled(self, number: int, known: bytes, into: npt.NDArray[np.uint8]) -> bool:
        """Copy a stored image, if there is one and it is whole."""
        if not self.stored or not any(known):
            return False
        stored = os.pread(self._images, self._size, self._start + number * self._size)
        if hashlib.sha256(stored).digest() != known:
            return False
        into[...] = np.frombuffer(stored, dtype=np.uint8).reshape(self._shape)
        return True

    def _record(self, number: int, known: bytes, pixels: npt.NDArray[np.uint8], split: Split, index: int) -> None:
        found = hashlib.sha256(pixels.tobytes()).digest()
        if any(known) and found != known:
            named = getattr(split, "name", "image {:,}".format)(index)
            raise DataError(
                f"{named} has other pixels than when it was first read. Restore the file; or, if it was meant to "
                "change, train a new run on the images"
            )
        if self.stored:
            os.pwrite(self._images, pixels.tobytes(), self._start + number * self._size)
        os.pwrite(self._hashes, found, number * _HASH)

    def unread(self, first: int, num: int) -> Iterator[Tensor]:
        """Yield the indices of images of a split that have not been read, some at a time; `first` is as in `read`."""
        for start in range(0, num, _HASHES_AT_ONCE):
            hashes = os.pread(self._hashes, min(_HASHES_AT_ONCE, num - start) * _HASH, (first + start) * _HASH)
            found = np.flatnonzero(np.frombuffer(hashes, dtype=np.uint64)[:: _HASH // 8] == 0)
            for part in range(0, len(found), _PART):
                yield torch.from_numpy(found[part : part + _PART] + start)

    def are_in(self, folder: Path) -> bool:
        """Whether the files that are written to lie in a folder, which another process may have made again."""
        try:
            there = os.stat(folder / _HASHES)
        except FileNotFoundError:
            return False
        own = os.fstat(self._hashes)
        return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)

    def digest(self) -> "hashlib._Hash | None":
        """The SHA-256 of all pixels if they are stored, else of the images' hashes; to be continued with the labels.

        None if stored images are damaged, which then count as not read.
        """
        found, damaged = hashlib.sha256(), False
        for number in range(self._num):
            known = content = os.pread(self._hashes, _HASH, number * _HASH)
            if self.stored:
                content = os.pread(self._images, self._size, self._start + number * self._size)
                if hashlib.sha256(content).digest() != known:
                    os.pwrite(self._hashes, bytes(_HASH), number * _HASH)
                    damaged = True
            found.update(content)
        with writing(self._folder):
            for descriptor in (self._images, self._hashes) if self.stored else (self._hashes,):
                os.fsync(descriptor)
        return None if damaged else found


@dataclass(frozen=True)
class RecordedSplit:
    """A split that reads through the records; its first image has the number `first`."""

    records: Records
    split: Split
    first: int

    def __len__(self) -> int:
        return len(self.split)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices`, uint8 [N, C, H, W].

        Raises:
            DataError: if `Records.read` raises it.
        """
        return self.records.read(self.first, self.split, indices)

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return self.split.labels(indices)


class RecordedFiles:
    """The `FilesIdentity` of recorded images, which lie in `folder` once all have been read."""

    def __init__(
        self, folder: Path, info: DatasetInfo, records: Records, splits: Sequence[Split], *, files_hash: str
    ) -> None:
        self.hash = files_hash
        self._folder, self._info, self._records = folder, info, records
        self._splits = [
            RecordedSplit(records, split, first) for split, first in zip(splits, (0, info.num_train), strict=True)
        ]

    def content_hash(self) -> str | None:
        """The SHA-256 of images and labels, once all images have been read; the held-out ones are read for it.

        Raises:
            DebiasctlError: if it cannot be stored.
        """
        contents = read_contents(self._folder)
        if contents is None and self._all_read():
            # where two processes see this, one does the work
            contents = made_once(self._folder.parent, find=partial(read_contents, self._folder), make=self._settle)
        return None if contents is None else contents.content_hash

    def read_all(self) -> tuple[str, ...]:
        """Read all images in order, and return the hashes that runs may know their content by.

        Raises:
            DataError: if one cannot be read, or has changed since it was first read.
        """
        digest, done, pace = hashlib.sha256(), 0, Pace()
        num = self._info.num_train + self._info.num_heldout
        for split in self._splits:
            for start in range(0, len(split), _PART):
                indices = torch.arange(start, min(start + _PART, len(split)))
                digest.update(split.images(indices).numpy().tobytes())
                done += len(indices)
                if pace.due():
                    _LOG.info("%d of %d images read", done, num)
        found = self.content_hash()  # None if another process has removed what was stored
        for text in self._tail():
            digest.update(text)
        return tuple(dict.fromkeys([one for one in (found, digest.hexdigest()) if one is not None]))

    def _all_read(self) -> bool:
        """Whether all images have been read, for which the held-out ones are once the others have been."""
        train, heldout = self._splits
        if next(self._records.unread(0, len(train)), None) is not None:
            return False
        try:
            for indices in self._records.unread(heldout.first, len(heldout)):
                heldout.images(indices)
        except DataError as error:
            _LOG.warning("the content of the images cannot be hashed: %s", error)
            return False
        return True

    def _settle(self) -> Contents | None:
        working = working_folder(self._folder)
        digest = self._records.digest() if self._records.are_in(working) else None
        if digest is None:
            return None
        for text in self._tail():
            digest.update(text)
        info = self._info
        contents = Contents(
            info.image_size, info.channels, info.num_train, info.num_heldout, (), digest.hexdigest(), None, None
        )
        write_json(working / CONTENTS, asdict(contents))
        with writing(self._folder):
            os.rename(working, self._folder)
        return contents

    def _tail(self) -> Iterator[bytes]:
        """What the hash of the content covers besides the pixels, as `decoded_images` writes it."""
        info = self._info
        yield f"[{json.dumps(info.classes)}, {'[' if info.classes else 'null'}".encode()
        before = ""
        for split in self._splits if info.classes else ():
            for start in range(0, len(split), _LABELS):
                labels = split.labels(torch.arange(start, min(start + _LABELS, len(split))))
                assert labels is not None, "a data set with classes has labels"
                yield (before + json.dumps(labels.tolist())[1:-1]).encode()
                before = ", "
        rest = [info.image_size, info.channels, info.num_train, info.num_heldout, ()]
        yield f"{']' if info.classes else ''}, {json.dumps(rest)[1:]}".encode()

    @property
    def splits(self) -> tuple[Split, Split]:
        """The two splits, read through the records."""
        train, heldout = self._splits
        return train, heldout


def working_folder(folder: Path) -> Path:
    """Where images are recorded that will lie in `folder` once all have been read."""
    return folder.with_name(f"{folder.name}.read")


def load_recorded(
    folder: Path, info: DatasetInfo, train: Split, heldout: Split, *, files_hash: str, at_once: bool
) -> LoadedDataset:
    """The data set of two splits of uint8 images, each of which is decoded once if all of them can be stored.

    `files_hash` identifies the images until all of them have been read; with `at_once` that is now, and a set that is
    stored is known by its content alone. Folders beside `folder` that were written for earlier states of the same
    images are removed.

    Raises:
        DataError: if images are read and cannot be.
    """
    contents = read_contents(folder)
    found = _from_array(folder, contents, info, (train, heldout), None if at_once else files_hash)
    if found is not None:
        return found
    place = folder if contents is not None else _begun(folder)
    if contents is None and place == folder:  # another process has read all of them since
        contents = read_contents(folder)
    num = info.num_train + info.num_heldout
    stored = contents is None and num * info.channels * info.image_size**2 <= decoded_images.MAX_DECODED_BYTES
    records = Records(place, num=num, channels=info.channels, image_size=info.image_size, stored=stored)
    files = RecordedFiles(folder, info, records, (train, heldout), files_hash=files_hash)
    if contents is None and at_once:
        _LOG.info("reading %d images, once", num)
        files.read_all()
    content_hash = files.content_hash()
    if content_hash is None:
        _LOG.info(
            "images are decoded as they are needed; until all %d have been read, they are known by their files' names, "
            "sizes and times",
            num,
        )
    found = _from_array(folder, read_contents(folder), info, (train, heldout), None if at_once else files_hash)
    train, heldout = files.splits
    return found or LoadedDataset(info, train, heldout, content_hash or files_hash, files=files)


def _begun(folder: Path) -> Path:
    """Where images are recorded: the working folder, which one process makes, or `folder` if it is there by now."""
    place = working_folder(folder)

    def find() -> Path | None:
        if (folder / CONTENTS).exists():
            return folder
        return place if place.exists() else None

    def begin() -> Path:
        with writing(folder):
            for earlier in folder.parent.glob("*"):
                shutil.rmtree(earlier, ignore_errors=True)
            place.mkdir(parents=True)
        return place

    return made_once(folder.parent, find=find, make=begin)


def _from_array(
    folder: Path, contents: Contents | None, info: DatasetInfo, splits: Sequence[Split], files_hash: str | None
) -> LoadedDataset | None:
    """The data set if all its images are stored."""
    array = None if contents is None else read_array(folder, contents)
    if contents is None or array is None:
        return None
    train, heldout = (
        ArraySplit(part, split.labels(torch.arange(len(split))))
        for part, split in zip((array[: info.num_train], array[info.num_train :]), splits, strict=True)
    )
    files = None if files_hash is None else _ReadFiles(files_hash, contents.content_hash)
    return LoadedDataset(info, train, heldout, contents.content_hash, files=files)


@dataclass(frozen=True)
class _ReadFiles:
    """The identity of files that have all been read, and stored."""

    hash: str
    known: str

    def content_hash(self) -> str:
        """The SHA-256 of images and labels."""
        return self.known

    def read_all(self) -> tuple[str]:
        """The same."""
        return (self.known,)
