"""Downloading data sets through torchvision into the cache, atomically and by one process at a time."""

import errno
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from debiasctl.api import DataError, DataLocation, atomic_folder, made_once

_TIMEOUT = 30.0  # seconds without a byte; torchvision itself would wait forever
_LOCAL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}


def cached_folder(location: DataLocation, name: str) -> Path:
    """The folder for a data set's downloaded files."""
    return location.cache_dir / "datasets" / name


def fetch(folder: Path, fill: Callable[[Path], None], *, help_text: str) -> None:
    """Make `folder` by `fill(temporary folder)`, unless it exists.

    Raises:
        DataError: if the download fails; the message includes `help_text`, which says what to do instead.
        DebiasctlError: if the cache cannot be written.
    """

    def download() -> Path:
        with atomic_folder(folder) as temporary, _timeout():
            try:
                fill(temporary)
            except (OSError, RuntimeError, HTTPException) as error:
                if isinstance(error, OSError) and error.errno in _LOCAL_ERRORS:
                    raise
                raise DataError(f"{help_text}\nThe download failed: {_one_line(error)}") from error
        return folder

    made_once(folder, find=lambda: folder if folder.exists() else None, make=download)


def not_found(
    name: str,
    *,
    files: Sequence[str],
    addresses: Sequence[str],
    searched: Sequence[Path],
    example: str,
    notes: Sequence[str],
) -> str:
    """The message for a data set that is neither found nor downloadable: where its files are published, and belong.

    `example` is the folder below the user's data folder in which the files are expected.
    """
    lines = [
        f"{name} is not on this machine and cannot be downloaded. Put these files into DIR/{example} and set "
        f"`data_dir` or DEBIASCTL_DATA to DIR: {', '.join(files)}",
        f"Published at: {' or '.join(addresses)}",
        f"Looked in: {', '.join(map(str, searched))}",
        *notes,
    ]
    return "\n".join(lines)


@contextmanager
def _timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
