"""Reading the image files of an uncompressed tar in place."""

import io
import os
import posixpath
import shlex
import tarfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from debiasctl.api import DataError, UsageError
from debiasctl.api.files import UNREADABLE, one_line, open_regular, quoted
from debiasctl.builtin.datasets._support.image_files import (
    LABELS,
    LARGEST,
    MOST_LABEL_BYTES,
    OUTSIDE,
    Tops,
    count_other,
    is_image_name,
    outside_name,
    plain_name,
    without_prefix,
)
from debiasctl.builtin.datasets._support.image_table import ImageFiles, Names, Numbers, Table, encode_name

# the endings of tars that can be read from their start alone -> the command that makes a .tar of one
_PACKED = {
    ".gz": "gzip -dk",
    ".tgz": "gzip -dk",
    ".bz2": "bzip2 -dk",
    ".tbz2": "bzip2 -dk",
    ".xz": "xz -dk",
    ".txz": "xz -dk",
    ".zst": "zstd -dk",
}
MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}
_BLOCK = 512  # bytes of a tar's header
_LINKS = 16  # that are followed from one to the next


def is_packed_tar(path: Path) -> bool:
    """Whether a file's name is that of a compressed tar: .tar.gz, .tgz, .tar.xz, ..."""
    kind = path.suffix.lower()
    return kind in _PACKED and (kind.startswith(".t") or path.stem.lower().endswith(".tar"))


def refuse_packed(path: Path, kind: str) -> UsageError:
    """The error for a compressed tar, with the command that makes it one that is read in place."""
    command = f"{_PACKED[kind]} {shlex.quote(path.name)}"
    return UsageError(
        f"{path} is a compressed tar, which can be read from its start alone. Decompress it ({command}): the .tar is "
        "read in place. Or unpack it, and give the folder"
    )


def tar_members(stream: IO[bytes], *, damaged: str) -> Iterator[tarfile.TarInfo]:
    """The members of an uncompressed tar, one after the other; `damaged` begins the message for a damaged header.

    Raises:
        tarfile.TarError or one of UNREADABLE: if the tar is damaged.
    """
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would hold all of them
            yield member
        end = archive.offset
    # tarfile takes a damaged header for the end of the tar
    if os.pread(stream.fileno(), _BLOCK, end).strip(b"\0"):
        raise tarfile.ReadError(f"{damaged} at byte {end:,}")


class TarSource:
    """The images in a tar, read at the places where they lie in it. A single folder that holds all counts as the root.

    As when a tar is unpacked, the last member of a name counts, and a link is what it leads to within the tar.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed_over = Counter[str]()
        try:
            self._file = open_regular(path)
            kind = next((kind for magic, kind in MAGIC.items() if self._file.peek(8).startswith(magic)), None)  # type: ignore[attr-defined]
            if kind is not None:
                raise refuse_packed(path, kind)
            self._changed = os.fstat(self._file.fileno()).st_mtime_ns
            members = self._read()
        except (tarfile.TarError, *UNREADABLE) as error:
            reason = one_line(getattr(error, "strerror", None) or error)
            raise DataError(f"{path} cannot be read as a tar: {reason}. Pack or fetch it again") from error
        self._root, self.unreadable = members.tops.root(), members.outside
        names, self._places = members.table()
        self._names = without_prefix(names, len(encode_name(self._root)))
        self.files = ImageFiles(self._names, self._places[:, :2])
        self.reasons = {name.removeprefix(self._root): reason for name, reason in members.reasons.items()}
        found = (members.labels[at] for at in (LABELS, self._root + LABELS) if at in members.labels)
        self._labels = next(found, None)
        self._labels_above = LABELS in members.labels
        self.labels_stamp = None if self._labels is None else (self._labels[1], self._changed)

    def labels_file(self) -> tuple[bytes, str]:
        """Read dataset.json; where it lies above the root, it names files with the root before them.

        Raises:
            DataError: if it cannot be read.
        """
        assert self._labels is not None, "labels_stamp says whether there is one"
        try:
            return self._bytes(*self._labels, limit=MOST_LABEL_BYTES), self._root if self._labels_above else ""
        except UNREADABLE as error:
            raise DataError(f"{self.path}: {LABELS} cannot be read ({one_line(error)}). Pack the tar again") from error

    def open(self, name: str) -> IO[bytes]:
        """A file's bytes, from its start.

        Raises:
            DataError: if the tar has changed since it was listed.
            one of UNREADABLE: if it is not a file that can be read, or is larger than an image file can be.
        """
        if name in self.reasons:
            raise ValueError(self.reasons[name])
        size, _, offset = self._places[bisect_left(self._names, encode_name(name))].tolist()
        return io.BytesIO(self._bytes(offset, size, limit=LARGEST))

    def _bytes(self, offset: int, size: int, *, limit: int) -> bytes:
        if size > limit:
            raise ValueError(f"it has {size:,} bytes, and at most {limit:,} are read")
        if os.fstat(self._file.fileno()).st_mtime_ns != self._changed:
            raise DataError(
                f"{self.path} has changed while it was in use. Restore it; or, if it was meant to change, train a new "
                "run on the images"
            )
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) != size:
            raise EOFError("it ends too early")
        return data

    def _read(self) -> "_Members":
        members = _Members(self.passed_over, self._changed)
        for member in tar_members(self._file, damaged="it is damaged"):
            members.add(member)
        return members


class _Members:
    """The images among a tar's members, by their names without `./`; a name that comes again replaces the first."""

    def __init__(self, passed_over: Counter[str], changed: int) -> None:
        self.labels: dict[str, tuple[int, int]] = {}  # offset and size of each dataset.json
        self.outside: list[tuple[str, str]] = []
        self.reasons: dict[str, str] = {}  # why an image cannot be read
        self._table = Table()
        self._links: dict[str, str] = {}
        self._passed_over, self._changed = passed_over, changed
        self.tops = Tops()

    def add(self, member: tarfile.TarInfo) -> None:
        """Add a member if it is an image."""
        if member.isdir():
            return
        name = plain_name(member.name)
        if outside_name(name):
            self.outside.append((name, OUTSIDE))
            return
        if not is_image_name(name):
            if name.rpartition("/")[2] == LABELS and member.isreg():
                self.labels[name] = (member.offset_data, member.size)
            count_other(self._passed_over, name)
            return
        self.tops.add(name)
        self.reasons.pop(name, None)
        self._links.pop(name, None)
        if member.issym() or member.islnk():
            beside = posixpath.dirname(name) if member.issym() else ""
            self._links[name] = posixpath.normpath(posixpath.join(beside, plain_name(member.linkname)))
        elif not member.isreg() or member.issparse():
            self.reasons[name] = "it is stored with holes" if member.issparse() else "it is no regular file"
        self._table.add(name, member.size, self._changed, member.offset_data)

    def table(self) -> tuple[Names, Numbers]:
        """Names [N], sorted, and uint64 [N, 3] of size, change and offset, with links resolved."""
        names, numbers = self._table.by_name()
        is_last = np.append(names[1:] != names[:-1], True)[: len(names)]
        names, numbers = names[is_last], numbers[is_last]
        for name in self._links:
            target = name
            for _ in range(_LINKS):
                target = self._links.get(target, target)
            row = bisect_left(names, encode_name(target))
            found = row < len(names) and names[row] == encode_name(target) and target not in self._links
            if not found or target in self.reasons:
                self.reasons[name] = f"it is a link to {quoted(target)}, which is no image in the tar"
            else:
                numbers[bisect_left(names, encode_name(name))] = numbers[row]
        return names, numbers
