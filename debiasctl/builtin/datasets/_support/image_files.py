"""Listing and reading the image files of a folder or a zip; image_source opens these and other forms."""

import io
import os
import posixpath
import stat
import struct
import zipfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from debiasctl.api import DataError
from debiasctl.api.files import UNREADABLE, expanded, is_text, one_line, open_regular, quoted, read_bytes, read_member
from debiasctl.builtin.datasets._support.image_table import ImageFile as ImageFile
from debiasctl.builtin.datasets._support.image_table import ImageFiles, Names, Table, encode_name

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
SPLIT_FOLDERS = ("train", "val", "test")
_EMPTY = b"PK\x05\x06" + bytes(18)  # the end of a zip without members
LARGEST = 2**28  # bytes of an image file in a zip
_DOS = 0  # what packed a zip
_ENCRYPTED = 0x1  # bit of a zip member's flags
_FOLDERS_LOOKED_INTO = 100
_ENDINGS = 5  # named in a message
_DIFFERENT_ENDINGS = 1000  # counted apart
LABELS = "dataset.json"  # StyleGAN's and EDM's
MOST_LABEL_BYTES = 2**29  # of dataset.json: labels of some ten million images
OUTSIDE = "its name leads out of the archive"
_NO_DATA = ("thumbs.db", "desktop.ini", LABELS)  # not counted as passed over


class ImageSource(Protocol):
    """A source of image files, from which any number of threads may read at once.

    `passed_over` counts the other files by ending, without hidden ones; `unreadable` are folders that cannot be listed,
    and members of archives that are not read, with the reason. `labels_stamp` changes with dataset.json, and is None
    where there is none.
    """

    path: Path
    files: ImageFiles  # sorted by name
    passed_over: Counter[str]
    unreadable: list[tuple[str, str]]
    labels_stamp: tuple[int, int] | None

    def labels_file(self) -> tuple[bytes, str]:
        """Read dataset.json, and the prefix that it puts before the names of `files`."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """Open a file at its start."""
        ...


def count_endings(passed_over: Counter[str]) -> str:
    """Files that are passed over, by ending: `40 .pgm, 2 .txt`."""
    named = [f"{count:,} {ending or 'without ending'}" for ending, count in passed_over.most_common(_ENDINGS)]
    return ", ".join(named) + (", ..." if len(passed_over) > _ENDINGS else "")


def absolute_path(text: str) -> Path:
    """The absolute path that an option states.

    Raises:
        ValueError: if it is blank or not UTF-8, or `~name` names no user.
    """
    path = expanded(text).absolute()
    if not is_text(path):
        raise ValueError(
            "the path is not UTF-8, so no spec can hold it. Rename the folder, or make a link to it with another name"
        )
    return path


def stamp_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """The size and time of a file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def is_image_name(name: str) -> bool:
    """Whether a path (with '/') counts as an image: it has an image's ending, and no part of it is hidden."""
    if posixpath.splitext(name)[1].lower() not in EXTENSIONS:
        return False
    # without pathlib, which interns each name in a table that never shrinks
    return not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return any((part.startswith(".") and part != ".") or part == "__MACOSX" for part in name.split("/"))


def plain_name(name: str) -> str:
    """A name in an archive or a table as the same file has in a folder: without `./` and doubled slashes."""
    if "./" not in name and "//" not in name:
        return name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/" * name.startswith("/") + "/".join(parts)


def outside_name(name: str) -> bool:
    """Whether an archive's member has an image's ending and a name that leads out of the folder it is unpacked in."""
    ending = posixpath.splitext(name)[1].lower() in EXTENSIONS
    return ending and (name.startswith("/") or ".." in name.split("/"))


def count_other(passed_over: Counter[str], name: str) -> None:
    """Count a file that is no image, unless it is hidden or a system's own."""
    base = name.rpartition("/")[2]
    if base.lower() not in _NO_DATA and not _is_hidden(name):
        ending = posixpath.splitext(base)[1].lower()
        passed_over[ending if ending in passed_over or len(passed_over) < _DIFFERENT_ENDINGS else "..."] += 1


def holds_images(folder: Path) -> bool:
    """Whether a quick search finds images in a folder or below it."""
    for count, (_, _, names) in enumerate(os.walk(folder)):
        if any(is_image_name(name) for name in names):
            return True
        if count == _FOLDERS_LOOKED_INTO:
            break
    return False


def named(unreadable: str) -> str:
    """How messages name an entry of `ImageSource.unreadable`."""
    return f"the folder {unreadable}" if unreadable.endswith(("/", ".")) else unreadable


class FolderSource:
    """The images below a folder. Symbolic links are followed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed_over = Counter[str]()
        self.unreadable: list[tuple[str, str]] = []
        self._folders: dict[str, tuple[int, int] | None] = {}
        self.files = ImageFiles.of(self._walk("", ancestors=frozenset()))
        try:
            status = (path / LABELS).stat()
            self.labels_stamp = (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
        except OSError:
            self.labels_stamp = None

    def has_its_files(self) -> bool:
        """Whether no file was added, removed or renamed since the listing; one may have been written again."""
        return all(stamp_of(folder) == stamp for folder, stamp in self._folders.items())

    def labels_file(self) -> tuple[bytes, str]:
        """Read dataset.json, which names files as `files` does.

        Raises:
            DataError: if it cannot be read.
        """
        path = self.path / LABELS
        try:
            return read_bytes(path, limit=MOST_LABEL_BYTES), ""
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({one_line(error)}). Make it readable") from error

    def _walk(self, prefix: str, *, ancestors: frozenset[str]) -> Iterator[ImageFile]:
        """Yield the images below a folder; one that cannot be examined has no stamp, and cannot be opened later."""
        folder = os.path.join(self.path, prefix)
        try:
            real = os.path.realpath(folder)
            self._folders[real] = stamp_of(real)
            if real in ancestors:  # a link that leads back up
                return
            entries = os.scandir(folder)
        except OSError as error:
            if not prefix:
                raise DataError(f"{self.path} cannot be read: {error.strerror}. Make it readable") from error
            self.unreadable.append((prefix, error.strerror or str(error)))
            return
        for entry in self._listed(entries, prefix):
            name = prefix + entry.name
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:  # such as a link to itself
                is_folder = False
            if is_folder:
                yield from self._walk(name + "/", ancestors=ancestors | {real})
            elif is_image_name(entry.name):
                try:
                    status = entry.stat()
                    yield ImageFile(name, (status.st_size, status.st_mtime_ns))
                except OSError:
                    yield ImageFile(name, (0, 0))
            else:
                count_other(self.passed_over, entry.name)

    def _listed(self, entries: "Iterator[os.DirEntry[str]]", prefix: str) -> "Iterator[os.DirEntry[str]]":
        """Yield a folder's entries; a listing that breaks off midway, as on a network's disk, makes it unreadable."""
        try:
            yield from entries
        except OSError as error:
            self.unreadable.append((prefix or ".", error.strerror or str(error)))

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read from its start."""
        return open_regular(os.path.join(self.path, name))


class ZipSource:
    """The images in a zip. A single folder that holds everything counts as the root."""

    def __init__(self, path: Path) -> None:
        self.path = path
        members = _Members()
        try:
            with open_regular(path) as file, zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    members.add(member)
            self._zip = zipfile.ZipFile(_WithoutDirectory(path))
        except (struct.error, *UNREADABLE) as error:
            reason = one_line(getattr(error, "strerror", None) or error)
            raise DataError(f"{path} cannot be read as a zip: {reason}. Pack or fetch it again") from error
        if members.num_encrypted:
            raise DataError(
                f"{path}: {members.num_encrypted} images are encrypted, first "
                f"{quoted(members.first_encrypted, mark='')}. Unpack the zip first"
            )
        self._root, self._stored_names = members.tops.root(), members.stored_names
        self.passed_over, self.unreadable = members.passed_over, members.outside
        self._labels = next((members.labels[at] for at in ("", self._root) if at in members.labels), None)
        self._labels_above = "" in members.labels
        self.labels_stamp = None if self._labels is None else (self._labels.file_size, self._labels.CRC)
        names, self._places = members.table.by_name()
        self._names = without_prefix(names, len(encode_name(self._root)))
        self.files = ImageFiles(self._names, self._places[:, :2])
        doubled = np.flatnonzero(self._names[1:] == self._names[:-1])
        if len(doubled):
            raise DataError(f"{path} holds {self.files[int(doubled[0])].name} twice. Pack it again")

    def labels_file(self) -> tuple[bytes, str]:
        """Read dataset.json; where it lies above the root, it names files with the root before them.

        Raises:
            DataError: if it cannot be read.
        """
        assert self._labels is not None, "labels_stamp says whether there is one"
        try:
            content = read_member(self._zip, self._labels, limit=MOST_LABEL_BYTES)
        except UNREADABLE as error:
            name = self._labels.filename
            raise DataError(f"{self.path}: {name} cannot be read ({one_line(error)}). Pack the zip again") from error
        return content, self._root if self._labels_above else ""

    def open(self, name: str) -> IO[bytes]:
        """Open a member, which is unpacked and verified as a whole because decoders seek in images.

        Raises:
            one of UNREADABLE: if it is damaged, or larger than an image file can be.
        """
        member = zipfile.ZipInfo(self._stored_names.get(self._root + name, self._root + name))
        row = self._places[bisect_left(self._names, encode_name(name))].tolist()
        member.file_size, member.CRC, member.header_offset, member.compress_size = row[:4]
        member.compress_type, member.flag_bits = row[4:]
        return io.BytesIO(read_member(self._zip, member, limit=LARGEST))


class Tops:
    """The top-level folders of an archive's images."""

    def __init__(self) -> None:
        self._tops: set[str] = set()  # at most two of them, "" for none

    def add(self, name: str) -> None:
        """Add the folder that an image lies in."""
        if len(self._tops) < 2:
            top, slash, _ = name.partition("/")
            self._tops.add(top if slash else "")

    def root(self) -> str:
        """The single folder that holds everything, with a '/', or an empty string."""
        if len(self._tops) == 1 and not self._tops & {"", *SPLIT_FOLDERS}:
            return f"{next(iter(self._tops))}/"
        return ""


class _Members:
    """The images among a zip's members, with the information for reading them."""

    def __init__(self) -> None:
        self.table = Table()
        self.stored_names: dict[str, str] = {}  # names that differ from those in the zip
        self.labels: dict[str, zipfile.ZipInfo] = {}  # each dataset.json, by the folder that it lies in
        self.passed_over = Counter[str]()
        self.outside: list[tuple[str, str]] = []
        self.num_encrypted, self.first_encrypted = 0, ""
        self.tops = Tops()

    def add(self, member: zipfile.ZipInfo) -> None:
        """Add a member if it is an image."""
        name = member.filename
        if member.create_system == _DOS:  # some of its programs write backslashes, which its file names cannot hold
            name = name.replace("\\", "/")
        name = plain_name(name)
        if member.is_dir():
            return
        if outside_name(name):
            self.outside.append((name, OUTSIDE))
            return
        if stat.S_ISLNK(member.external_attr >> 16) and is_image_name(name):
            self.outside.append((name, "it is a link, which is not followed in a zip"))
            return
        if not is_image_name(name):
            folder, slash, base = name.rpartition("/")
            if base == LABELS and "/" not in folder:
                self.labels[folder + slash] = member
            count_other(self.passed_over, name)
            return
        if member.flag_bits & _ENCRYPTED:
            self.first_encrypted = self.first_encrypted or name
            self.num_encrypted += 1
        if name != member.orig_filename:
            self.stored_names[name] = member.orig_filename
        self.tops.add(name)
        self.table.add(
            name,
            member.file_size,
            member.CRC,
            member.header_offset,
            member.compress_size,
            member.compress_type,
            member.flag_bits,
        )


class _WithoutDirectory(io.FileIO):
    """A zip's file that looks empty to `zipfile`, for reading members at known positions.

    `zipfile` stores about 570 bytes per member of the directory that it has read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._size = super().seek(0, os.SEEK_END)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Seek to a position, which may lie in the simulated end of the file."""
        if whence == os.SEEK_END:
            return super().seek(self._size + len(_EMPTY) + offset)
        return super().seek(offset, whence)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes of the file or of its simulated end."""
        beyond = self.tell() - self._size
        return super().read(size) if beyond < 0 else io.BytesIO(_EMPTY[beyond:]).read(size)


def without_prefix(names: Names, length: int) -> Names:
    """Remove the first `length` bytes of each name."""
    if not length:
        return names
    rows = names.view(np.uint8).reshape(len(names), -1)[:, length:]
    return np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").ravel()
