"""Names and stamps of many millions of image files, stored as arrays."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self, overload

import numpy as np
import numpy.typing as npt

_PART = 512  # files that exist as objects at one time
_WORD = 2**64 - 1

Names = npt.NDArray[np.bytes_]
Numbers = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file: `name` is its path below the root, with '/'; `stamp` changes when the file does."""

    name: str
    stamp: tuple[int, int]


class ImageFiles(Sequence[ImageFile]):
    """Image files sorted by name, each stored in as many bytes as the longest name plus 20.

    `names` [N] are fixed-width bytes, `stamps` uint64 [N, 2]; `rows` chooses among both.
    """

    def __init__(self, names: Names, stamps: Numbers, *, rows: npt.NDArray[np.uint32] | None = None) -> None:
        self._names, self._stamps = names, stamps
        self._rows = np.arange(len(names), dtype=np.uint32) if rows is None else rows

    @classmethod
    def of(cls, files: Iterable[ImageFile]) -> Self:
        """Store files in this form, iterating over them once."""
        table = Table()
        for file in files:
            table.add(file.name, *file.stamp)
        return cls(*table.by_name())

    @property
    def rows(self) -> npt.NDArray[np.uint32]:
        """The position of each file in the whole table that these files were chosen from."""
        return self._rows

    @property
    def num_whole(self) -> int:
        """The number of files in that whole table."""
        return len(self._names)

    def choose(self, rows: npt.NDArray[Any]) -> "ImageFiles":
        """Select files by their positions, int [M] ascending, or by a mask, bool [N]."""
        return type(self)(self._names, self._stamps, rows=self._rows[rows])

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> ImageFile: ...

    @overload
    def __getitem__(self, index: slice) -> "ImageFiles": ...

    def __getitem__(self, index: int | slice) -> "ImageFile | ImageFiles":
        if isinstance(index, slice):
            return type(self)(self._names, self._stamps, rows=self._rows[index])
        row = self._rows[index]
        return _file(self._names[row], self._stamps[row].tolist())

    def __iter__(self) -> Iterator[ImageFile]:
        for start in range(0, len(self), _PART):
            rows = self._rows[start : start + _PART]
            yield from map(_file, self._names[rows].tolist(), self._stamps[rows].tolist())


def without(files: ImageFiles, names: Sequence[str]) -> ImageFiles:
    """The files without those of the given names."""
    if not names:
        return files
    left_out = set(names)
    return files.choose(np.fromiter((file.name not in left_out for file in files), dtype=np.bool_, count=len(files)))


class Table:
    """Names, each with numbers that are stored modulo 2⁶⁴, which is enough to detect changes."""

    def __init__(self) -> None:
        self._part: list[tuple[bytes, list[int]]] = []
        self._names: list[Names] = []
        self._numbers: list[Numbers] = []

    def add(self, name: str, *numbers: int) -> None:
        """Add a row."""
        self._part.append((encode_name(name), [number & _WORD for number in numbers]))
        if len(self._part) == _PART:
            self._pack()

    def by_name(self) -> tuple[Names, Numbers]:
        """Remove all rows, and return fixed-width names [N], sorted as Python strings, and uint64 [N, numbers]."""
        self._pack()
        names, self._names = np.concatenate([np.empty(0, dtype="S1"), *self._names]), []
        order = np.argsort(names, kind="stable")  # UTF-8 keeps the order of code points
        numbers, self._numbers = np.concatenate(self._numbers or [np.empty((0, 2), dtype=np.uint64)]), []
        return names[order], numbers[order]

    def _pack(self) -> None:
        if self._part:
            names, numbers = zip(*self._part, strict=True)
            self._names.append(np.array(names, dtype=np.bytes_))
            self._numbers.append(np.array(numbers, dtype=np.uint64))
            self._part = []


def encode_name(name: str) -> bytes:
    """Encode a name as it is stored; a file system's name need not be valid text."""
    return name.encode("utf-8", "surrogatepass")


def _file(name: bytes, stamp: Sequence[int]) -> ImageFile:
    return ImageFile(name.decode("utf-8", "surrogatepass"), (stamp[0], stamp[1]))
