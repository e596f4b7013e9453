"""Downloading data sets through torchvision into the cache, atomically and by one process at a time."""

import errno
import lzma
import shutil
import socket
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

from debiasctl.api import DataError, DataLocation, atomic_folder, made_once
from debiasctl.builtin.datasets._support.image_files import plain_name

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


def unpack(archive: Path, folder: Path, names: Sequence[str]) -> None:
    """Unpack the files of these names from a tar, compressed or not, into `folder`; nothing else in it is written.

    Raises:
        DataError: if the archive is damaged.
    """
    wanted = set(names)
    try:
        with tarfile.open(archive) as packed:
            for member in packed:
                name = plain_name(member.name)
                stored = packed.extractfile(member) if name in wanted and member.isreg() else None
                if stored is not None:
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    with open(folder / name, "wb") as file:
                        shutil.copyfileobj(stored, file)
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{archive} cannot be unpacked ({_one_line(error)}). Replace it, or remove it so that it is downloaded"
        ) from error


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
