"""Arrays in npz and npy files: plain numbers, whose stated shape is that of the bytes there are."""

import math
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from debiasctl.reading.regular import open_regular
from debiasctl.reading.zips import BLOCK, check_member, read_exactly
from debiasctl.reading.zips import UNREADABLE as UNREADABLE
from debiasctl.wording import format_bytes, quoted

_MAGIC = b"\x93NUMPY"
_LENGTHS = {1: 2, 2: 4}  # bytes that hold a header's length, by the format's major version
_LONGEST_HEADER = 10_000  # bytes
_SHARE = 0.9  # of the machine's free memory that one array may take
_KINDS = "biufcUS"


class ObjectArrayError(ValueError):
    """An array holds Python objects, which are not read because that could run code."""


class Npz:
    """The arrays of an npz, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise ValueError(f"it holds {quoted(name)} twice")
            self._members[name] = member

    @property
    def names(self) -> list[str]:
        """The arrays' names."""
        return list(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str, *, limit: int | None = None) -> npt.NDArray[Any]:
        """Read an array of at most `limit` bytes (default: what the machine's memory holds).

        Raises:
            ObjectArrayError: if it holds Python objects; one of UNREADABLE: if it is damaged, too large or missing.
        """
        with self.open(name, limit=limit) as (stream, shape, dtype, fortran):
            array = np.empty(math.prod(shape), dtype)
            fill(stream, array.view(np.uint8) if array.nbytes else np.empty(0, np.uint8))
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)

    @contextmanager
    def open(
        self, name: str, *, limit: int | None = None, whole: bool = True
    ) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any], bool]]:
        """Open an array at its first value: the stream, the shape, the type, and whether columns come first.

        Without `whole` it is to be read block by block, and need not fit into memory.

        Raises:
            ObjectArrayError, one of UNREADABLE: as `read` does.
        """
        if name not in self._members:
            raise KeyError(f"it holds no {quoted(name)}")
        member = self._members[name]
        check_member(member, packed=not whole)
        with self._archive.open(member) as stream:
            shape, fortran, dtype, start = read_header(stream)
            size = math.prod(shape) * dtype.itemsize
            if start + size != member.file_size:
                raise ValueError(
                    f"{quoted(name)} states {_values(shape)} of {dtype}, which take {size:,} bytes, and has "
                    f"{member.file_size - start:,}"
                )
            if whole:
                check_size(size, limit=limit)
            yield stream, shape, dtype, fortran


@contextmanager
def open_npz(path: str | PathLike[str]) -> Iterator[Npz]:
    """Open a regular file that is an npz.

    Raises:
        one of UNREADABLE: if it is not one, or is damaged.
    """
    with open_regular(path) as stream, npz_in(stream) as arrays:
        yield arrays


@contextmanager
def npz_in(stream: IO[bytes]) -> Iterator[Npz]:
    """The npz in a stream that can seek.

    Raises:
        one of UNREADABLE: if it is not one, or is damaged.
    """
    start = stream.read(len(_MAGIC))
    if start == _MAGIC:
        raise ValueError("it is one array (numpy.save), not an npz")
    if start[:2] != b"PK":
        raise ValueError("it is not an npz" if start else "it is empty")
    with zipfile.ZipFile(stream) as archive:
        yield Npz(archive)


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read an npy's header: the shape, whether columns come first, the type, and the bytes of the header itself.

    Raises:
        ObjectArrayError: if the array holds Python objects.
        ValueError, EOFError: if it is not a header, or is of an array of other things than numbers, booleans and text.
    """
    first = read_exactly(stream, len(_MAGIC) + 2)
    if first[:-2] != _MAGIC or first[-2] not in _LENGTHS:
        raise ValueError("it does not begin as an array does")
    width = _LENGTHS[first[-2]]
    length = int.from_bytes(read_exactly(stream, width), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes, and at most {_LONGEST_HEADER:,} are read")
    shape, fortran, dtype = _parsed(read_exactly(stream, length))
    if dtype.hasobject:
        raise ObjectArrayError("is an array of Python objects, which is not read because it could run code")
    if dtype.kind not in _KINDS or (dtype.itemsize == 0 and shape):
        raise ValueError(f"it holds {quoted(dtype)}, not numbers")
    return shape, fortran, dtype, len(first) + width + length


def _parsed(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    import ast

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of text that is no valid Python
            fields = ast.literal_eval(header.decode("latin-1").strip())
            shape, fortran, dtype = fields["shape"], fields["fortran_order"], np.dtype(fields["descr"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError, OverflowError) as error:
        raise ValueError("its header cannot be read") from error
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape) or len(shape) > 32:
        raise ValueError(f"its header states the shape {quoted(repr(shape))}")
    if type(fortran) is not bool:
        raise ValueError("its header does not state the order of its values")
    return shape, fortran, dtype


def fill(stream: IO[bytes], target: npt.NDArray[np.uint8]) -> None:
    """Fill bytes [N] from a stream that has to end there; only they, and one block, are in memory."""
    for begin in range(0, len(target), BLOCK):
        part = target[begin : begin + BLOCK]
        part[:] = np.frombuffer(read_exactly(stream, len(part)), np.uint8)
    read_exactly(stream, 0, at_end=True)


def check_size(size: int, *, limit: int | None = None) -> None:
    """Raise ValueError if an array of so many bytes is larger than `limit` (default: a share of the free memory)."""
    if limit is not None:
        if size > limit:
            raise ValueError(f"it takes {format_bytes(size)}, and at most {format_bytes(limit)} are read")
    elif size > 2**26:  # asking the system takes longer than reading less
        import psutil

        free = int(psutil.virtual_memory().available)
        if size > _SHARE * free:
            raise ValueError(f"it takes {format_bytes(size)}, and this machine has {format_bytes(free)} of memory left")


def _values(shape: tuple[int, ...]) -> str:
    return quoted("x".join(map(str, shape)) or "one value", mark="", limit=60)
