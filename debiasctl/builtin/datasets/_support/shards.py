"""Indexes of shards, which make the samples in tar files readable in any order."""

import io
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from debiasctl.api import DataError, Pace, UsageError, atomic_file, content_key
from debiasctl.api.arrays import UNREADABLE, open_npz
from debiasctl.api.files import one_line, open_regular, parse_json, quoted
from debiasctl.builtin.datasets._support.image_files import EXTENSIONS
from debiasctl.builtin.datasets._support.image_layout import place_of
from debiasctl.builtin.datasets._support.image_table import encode_name
from debiasctl.builtin.datasets._support.image_tar import MAGIC, tar_members

_LOG = logging.getLogger(__name__)
_VERSION = 1  # of the index
_ARRAYS = ("keys", "offsets", "sizes", "places", "labels", "without")
_META = re.compile(r"__[^/]*__($|/)")  # names that webdataset passes over too
_MOST_LABEL_BYTES = 2**20
_LONGEST_LABEL = 200  # characters

SplitName = Callable[[str], tuple[str | None, str | None]]  # a member's name -> the sample's key, and the ending


@dataclass(frozen=True)
class Fields:
    """Which of a sample's files are its image and its class, as the options of `webdataset` say.

    `image` is an ending, or None for the only one that is an image's. `label` is an ending, `json.FIELD`, `none`, or
    `auto`, which stands for `cls`, if the samples have it.
    """

    image: str | None
    label: str

    def image_of(self, sample: "Sample") -> "Member | None":
        """The file of a sample's image.

        Raises:
            UsageError: if there are several.
        """
        if self.image is not None:
            return sample.members.get(self.image)
        found = [one for one in sample.members if f".{one.rpartition('.')[2]}" in EXTENSIONS]
        plain = [one for one in found if "." not in one]  # jpg rather than mask.png
        if len(plain or found) > 1:
            raise UsageError(
                f"{sample.where} has several images: {', '.join(sorted(plain or found))}. Say which: "
                f"image={sorted(plain or found)[0]}"
            )
        return sample.members[(plain or found)[0]] if found else None

    def label_of(self, sample: "Sample", read: "Callable[[Member], bytes]") -> str | None:
        """The class that a sample states, as text; None if it states none.

        Raises:
            DataError: if what it states is no class.
        """
        if self.label == "none":
            return None
        ending, _, name = ("cls" if self.label == "auto" else self.label).partition(".")
        member = sample.members.get(ending if name == "" or ending == "json" else self.label)
        if member is None:
            return None
        text = read(member).decode("utf-8", "replace").strip()
        if ending == "json":
            return _field(text, name, sample.where)
        if not text or "\n" in text or len(text) > _LONGEST_LABEL:
            named = "cls" if self.label == "auto" else self.label
            raise DataError(f"{sample.where}: its {named} holds {text!r:.40}, which is no class")
        return text


@dataclass(frozen=True)
class Member:
    """A file in a shard, by its place."""

    offset: int
    size: int


@dataclass
class Sample:
    """The files of a sample by their endings; `where` names it in messages."""

    key: str
    where: str
    members: dict[str, Member] = field(default_factory=dict)


@dataclass(frozen=True)
class Shard:
    """A shard as it was when it was indexed, and its samples that have an image, in order.

    `keys` [N] are bytes, `places` [N] in [0, 1) depend only on the shard's name and the key, `labels` [N] are texts or
    None where no sample has one; `without` counts the samples that have no image.
    """

    path: Path
    size: int
    time: int
    keys: npt.NDArray[np.bytes_]
    offsets: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint64]
    places: npt.NDArray[np.float64]
    labels: npt.NDArray[np.str_] | None
    without: int


def read_shard(path: Path, fields: Fields, folder: Path, split_name: SplitName) -> Shard:
    """Read a shard's index from `folder`, where it is made if there is none for the shard as it is.

    Raises:
        UsageError: if there is no such file, or it is compressed.
        DataError: if it is damaged, or a sample is not as `fields` says.
    """
    try:
        with open_regular(path) as stream:
            status = os.fstat(stream.fileno())
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a folder. Give the shards in it: {path}/*.tar") from error
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the shard {path} cannot be read: {getattr(error, 'strerror', None) or error}. Check urls; or, if a run's "
            "shards have moved, say where they are: `data_path=DIR`"
        ) from error
    key = [str(path), status.st_size, status.st_mtime_ns, fields.image, fields.label, _VERSION]
    stored = folder / f"{content_key(key)}.npz"
    arrays = _stored(stored)
    if arrays is None:
        arrays = _indexed(path, fields, split_name)
        with atomic_file(stored) as stream:
            np.savez(stream, **arrays)
    labels = arrays["labels"] if len(arrays["labels"]) else None
    return Shard(
        path, status.st_size, status.st_mtime_ns, arrays["keys"], arrays["offsets"], arrays["sizes"], arrays["places"],
        labels, int(arrays["without"]),
    )  # fmt: skip


def _stored(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        with open_npz(path) as archive:
            return {name: archive.read(name) for name in _ARRAYS}
    except (*UNREADABLE, KeyError):
        return None  # it is made again


def _indexed(path: Path, fields: Fields, split_name: SplitName) -> dict[str, Any]:
    keys: list[bytes] = []
    found: list[tuple[int, int, float]] = []
    labels: list[str | None] = []
    without = 0
    with open_regular(path) as stream:

        def read(member: Member) -> bytes:
            if member.size > _MOST_LABEL_BYTES:
                raise DataError(f"{path}: a label of {member.size:,} bytes is no class")
            return os.pread(stream.fileno(), member.size, member.offset)

        for sample in _samples(stream, path, split_name):
            image = fields.image_of(sample)
            if image is None:
                without += 1
                continue
            keys.append(encode_name(sample.key))
            found.append((image.offset, image.size, place_of(f"{path.name}/{sample.key}")))
            labels.append(fields.label_of(sample, read))
            if (labels[-1] is None) is not (labels[0] is None):
                raise DataError(
                    f"{sample.where} has {'no' if labels[-1] is None else 'a'} class, unlike others before it"
                )
    offsets, sizes, places = zip(*found, strict=True) if found else ((), (), ())
    return {
        "keys": np.array(keys, dtype=np.bytes_),
        "offsets": np.array(offsets, dtype=np.uint64),
        "sizes": np.array(sizes, dtype=np.uint64),
        "places": np.array(places, dtype=np.float64),
        "labels": np.array([text for text in labels if text is not None], dtype=np.str_),
        "without": np.array(without, dtype=np.int64),
    }


def _samples(stream: IO[bytes], path: Path, split_name: SplitName) -> Iterator[Sample]:
    """Group the files of a tar that follow one another and have one key, as webdataset does."""
    sample = None
    for name, member in _members(stream, path):
        key, ending = split_name(name)
        if key is None or ending is None:
            continue
        ending = ending.lower()
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = Sample(key, f"{path}: {key}")
        if ending in sample.members:
            raise DataError(f"{path} holds {name} twice in one sample. Pack it again")
        sample.members[ending] = member
    if sample is not None:
        yield sample


def _members(stream: IO[bytes], path: Path) -> Iterator[tuple[str, Member]]:
    head = stream.read(6)
    stream.seek(0)
    if head.startswith(tuple(MAGIC)):
        raise UsageError(
            f"the shard {path} is compressed, so that its images cannot be read in any order. Unpack it (gunzip): "
            "images are compressed already"
        )
    try:
        for entry in tar_members(stream, damaged="no header of a file"):
            if _META.match(entry.name):
                continue
            if (entry.islnk() or entry.issym()) and "." in entry.name:
                raise DataError(
                    f"the shard {path} holds {quoted(entry.name)} as a link, which is not followed. Pack it again with "
                    "what links lead to (tar --dereference --hard-dereference)"
                )
            if entry.isreg() and not entry.issparse():
                yield entry.name, Member(entry.offset_data, entry.size)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise DataError(f"the shard {path} is damaged: {one_line(error)}. Pack it again") from error


def _field(text: str, name: str, where: str) -> str | None:
    try:
        value = parse_json(text)
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: its json cannot be read ({one_line(error)})") from error
    if value is None:
        return None
    found = "" if isinstance(value, bool) or not isinstance(value, int | str) else str(value).strip()
    if 0 < len(found) <= _LONGEST_LABEL:
        return found
    raise DataError(f"{where}: {name} is {value!r:.40}, which is no class. Use whole numbers or texts")


class ShardImages:
    """The images of shards, numbered through them; `ByteImages` for reading."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._folder = os.path.commonpath([shard.path.parent for shard in shards])
        self.where = str(shards[0].path) if len(shards) == 1 else f"{shards[0].path} … {shards[-1].path.name}"
        self._starts = np.cumsum([0, *(len(shard.offsets) for shard in shards)])
        self._offsets = np.concatenate([shard.offsets for shard in shards])
        self._sizes = np.concatenate([shard.sizes for shard in shards])

    def __len__(self) -> int:
        return len(self._offsets)

    def openers(self, rows: Sequence[int]) -> Sequence[Callable[[], IO[bytes]]]:
        """A function for each image that reads it from its shard."""
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        places = zip(numbers.tolist(), self._offsets[rows].tolist(), self._sizes[rows].tolist(), strict=True)
        return [partial(_open, self._shards[number], offset, size) for number, offset, size in places]

    def name(self, row: int) -> str:
        """The shard, and the key of the sample in it."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        shard = self._shards[number]
        key = shard.keys[row - self._starts[number]].decode("utf-8", "replace")
        return f"{shard.path.relative_to(self._folder)}: {key}"


def _open(shard: Shard, offset: int, size: int) -> IO[bytes]:
    """Read an image from its shard.

    Raises:
        DataError: if the shard has changed since it was indexed.
    """
    with open_regular(shard.path) as stream:
        status = os.fstat(stream.fileno())
        if (status.st_size, status.st_mtime_ns) != (shard.size, shard.time):
            raise DataError(
                f"the shard {shard.path} has changed while it was in use. Restore it; or, if it was meant to change, "
                "train a new run on the images"
            )
        return io.BytesIO(os.pread(stream.fileno(), size, offset))


def index_all(paths: Sequence[Path], fields: Fields, folder: Path, split_name: SplitName) -> list[Shard]:
    """Read or make the indexes of shards.

    Raises:
        UsageError, DataError: if `read_shard` raises it, or there are no images.
    """
    pace, shards = Pace(), []
    for path in paths:
        shards.append(read_shard(path, fields, folder, split_name))
        if pace.due():
            _LOG.info("%d of %d shards indexed", len(shards), len(paths))
    return shards
