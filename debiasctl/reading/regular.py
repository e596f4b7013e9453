"""Opening and reading files: regular ones alone, so that a pipe or device never blocks, and up to a size."""

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import IO

JSON_LIMIT = 16 * 2**20  # bytes of a spec, status or record: a weighting's table of 100,000 points takes 8 MB
_LEAST, _CHUNK = 2**12, 2**20  # bytes of a buffer; a large one takes longer than a small file
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_BINARY, _NONBLOCK, _CLOEXEC = (getattr(os, f"O_{name}", 0) for name in ("BINARY", "NONBLOCK", "CLOEXEC"))


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a regular file for reading; never waits for another process.

    Raises:
        OSError: if there is no such file, it is not a regular file, or it may not be read.
        ValueError: if the path holds a NUL character.
    """
    return os.fdopen(_descriptor(path), "rb")


def special_kind(path: str | os.PathLike[str]) -> str | None:
    """What `path`, or what it links to, is if it is no file and no folder: "a device", for example; else None."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None
    return _kind(mode)


def read_bytes(path: str | os.PathLike[str], *, limit: int = JSON_LIMIT) -> bytes:
    """Read a whole regular file of at most `limit` bytes.

    Raises:
        OSError: if `open_regular` raises it; ValueError: if the file is larger.
    """
    descriptor = _descriptor(path)
    try:
        size = os.fstat(descriptor).st_size
        parts, total, chunk = [], 0, min(_CHUNK, max(_LEAST, size + 1))
        while total <= limit and (part := os.read(descriptor, min(chunk, limit + 1 - total))):
            parts.append(part)
            total += len(part)
    finally:
        os.close(descriptor)
    if total > limit:
        raise ValueError(f"it has {max(size, total):,} bytes, and at most {limit:,} are read")
    return b"".join(parts)


def read_text(path: str | os.PathLike[str], *, limit: int = JSON_LIMIT) -> str:
    """Read a whole regular file of UTF-8 text, with or without a byte order mark.

    Raises:
        OSError: if `open_regular` raises it; ValueError: if the file is larger than `limit`, or is not UTF-8 text.
    """
    return decode_text(read_bytes(path, limit=limit))


def decode_text(data: bytes) -> str:
    """Decode UTF-8 text, with or without a byte order mark, as Windows' editors write it.

    Raises:
        ValueError: if it is not UTF-8 text.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (at byte {error.start:,})") from error


def sha256_file(path: Path) -> str:
    """The SHA-256 of a regular file, in hexadecimal."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # it is a buffered reader


def _descriptor(path: str | os.PathLike[str]) -> int:
    name = os.fspath(path)
    _refuse_irregular(os.stat(name).st_mode, name)  # some devices act on being opened
    descriptor = os.open(name, os.O_RDONLY | _BINARY | _NONBLOCK | _CLOEXEC)
    try:
        _refuse_irregular(os.fstat(descriptor).st_mode, name)  # it may have been replaced in between
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_irregular(mode: int, name: str) -> None:
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", name)
    raise OSError(errno.EINVAL, f"it is {_kind(mode) or 'something else'}, not a regular file", name)


def _kind(mode: int) -> str | None:
    return next((kind for test, kind in _KINDS if test(mode)), None)
