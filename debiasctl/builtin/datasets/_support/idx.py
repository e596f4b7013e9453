"""Reading the idx files of MNIST and similar data sets, with or without gzip."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from debiasctl.api import DataError
from debiasctl.api.files import open_regular

_UNSIGNED_BYTE = 0x08
_LARGEST = 2**30  # bytes: 20 times those of MNIST
_GZIP = b"\x1f\x8b"


def read_idx(path: Path, *, ndim: int) -> npt.NDArray[np.uint8]:
    """Read the array of unsigned bytes in an idx file: a magic number, `ndim` sizes (big-endian), and the bytes.

    Raises:
        DataError: if the file cannot be read, is not such a file, or has another length than it states.
    """
    shape, data = _read(path, ndim=ndim, whole=True)
    size = math.prod(shape)
    if len(data) != size:
        what = "is cut short" if len(data) < size else "is too long"
        follow = len(data) if len(data) <= size else f"more than {size}"
        raise _damaged(path, f"it {what}: its header states {'x'.join(map(str, shape))} bytes, but {follow} follow")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def read_idx_shape(path: Path, *, ndim: int) -> tuple[int, ...]:
    """Read the shape in an idx file's header.

    Raises:
        DataError: if the file cannot be read, or is not such a file.
    """
    return _read(path, ndim=ndim, whole=False)[0]


def _read(path: Path, *, ndim: int, whole: bool) -> tuple[tuple[int, ...], bytes]:
    try:
        with open_regular(path) as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            stream: IO[bytes] = gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[assignment]
            header = stream.read(4 + 4 * ndim)
            shape = _shape(header, ndim=ndim, path=path)
            stated = math.prod(shape)
            if stated > _LARGEST:
                raise _damaged(path, f"its header states {stated:,} bytes, and at most {_LARGEST:,} are read")
            data = stream.read(stated + 1) if whole else b""
    except (OSError, EOFError, zlib.error) as error:  # gzip raises all three on damaged files
        raise _damaged(path, getattr(error, "strerror", None) or str(error)) from error
    return shape, data


def _shape(header: bytes, *, ndim: int, path: Path) -> tuple[int, ...]:
    if len(header) < 4 + 4 * ndim or header[:4] != bytes([0, 0, _UNSIGNED_BYTE, ndim]):
        raise _damaged(path, f"it is not an idx file of unsigned bytes in {ndim} dimension{'s' if ndim > 1 else ''}")
    return struct.unpack(f">{ndim}I", header[4:])


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} cannot be read: {reason}. Replace the file, or remove it to use one from elsewhere")
