"""The image files of a folder or a zip: their names, and their bytes."""

import io
import os
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from debiasctl.errors import DataError, UsageError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
SPLIT_FOLDERS = ("train", "val", "test")
_ENCRYPTED = 0x1  # bit of a zip member's flags
_FOLDERS_LOOKED_INTO = 100


@dataclass(frozen=True)
class ImageFile:
    """An image file: `name` is its path below the root, with '/'; `stamp` changes when the file does."""

    name: str
    stamp: tuple[int, int]


class ImageSource(Protocol):
    """Where image files are read from; any number of threads may read at once."""

    path: Path
    files: Sequence[ImageFile]  # sorted by name

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read from its start."""
        ...


def open_source(path: Path) -> ImageSource:
    """The images of a folder or a zip.

    Raises:
        UsageError: there is no such folder or zip.
        DataError: it cannot be read, or holds no images.
    """
    if path.is_dir():
        source: ImageSource = FolderSource(path)
    elif path.is_file() and path.suffix.lower() == ".zip":
        source = ZipSource(path)
    elif path.exists():
        raise UsageError(f"{path} is neither a folder nor a .zip of images. Unpack it, and give the folder")
    else:
        raise UsageError(f"{path} does not exist. Give a folder or a .zip of images")
    if not source.files:
        raise DataError(f"{path} holds no images. Image files end in {', '.join(sorted(EXTENSIONS))}")
    return source


def is_image_name(name: str) -> bool:
    """Whether a path (with '/') is taken for an image's: by its ending, and unless a part of it is hidden."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in EXTENSIONS and not hidden


def holds_images(folder: Path) -> bool:
    """Whether images lie in a folder or below it, as far as a quick look shows."""
    for count, (_, _, names) in enumerate(os.walk(folder)):
        if any(is_image_name(name) for name in names):
            return True
        if count == _FOLDERS_LOOKED_INTO:
            break
    return False


class FolderSource:
    """The images below a folder. Symbolic links are followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.files: Sequence[ImageFile] = sorted(_walk(path, "", ancestors=frozenset()), key=lambda file: file.name)
        except OSError as error:
            raise DataError(f"{error.filename or path} cannot be read: {error.strerror}. Make it readable") from error

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read from its start."""
        return open(self.path / name, "rb")


class ZipSource:
    """The images in a zip. A single folder that everything lies in counts as the root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise DataError(f"{path} cannot be read as a zip: {error}. Pack or fetch it again") from error
        members = [member for member in self._zip.infolist() if not member.is_dir() and is_image_name(member.filename)]
        encrypted = [member.filename for member in members if member.flag_bits & _ENCRYPTED]
        if encrypted:
            raise DataError(
                f"{path}: {len(encrypted)} images are encrypted, first {encrypted[0]}. Unpack the zip first"
            )
        self._root = _single_root([member.filename for member in members])
        files = [ImageFile(m.filename.removeprefix(self._root), (m.file_size, m.CRC)) for m in members]
        self.files: Sequence[ImageFile] = sorted(files, key=lambda file: file.name)
        doubled = [one.name for one, other in zip(self.files, self.files[1:], strict=False) if one.name == other.name]
        if doubled:
            raise DataError(f"{path} holds {doubled[0]} twice. Pack it again")

    def open(self, name: str) -> IO[bytes]:
        """A member, unpacked and checked as a whole, for images are read back and forth."""
        return io.BytesIO(self._zip.read(self._root + name))


def _walk(folder: Path, prefix: str, *, ancestors: frozenset[str]) -> Iterator[ImageFile]:
    real = os.path.realpath(folder)
    if real in ancestors:  # a link that leads back up
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir():
                yield from _walk(folder / entry.name, name + "/", ancestors=ancestors | {real})
            elif is_image_name(entry.name):
                status = entry.stat()
                yield ImageFile(name, (status.st_size, status.st_mtime_ns))


def _single_root(names: Sequence[str]) -> str:
    roots = {name.partition("/")[0] for name in names if "/" in name}
    if len(roots) == 1 and all("/" in name for name in names) and not roots & set(SPLIT_FOLDERS):
        return f"{roots.pop()}/"
    return ""
