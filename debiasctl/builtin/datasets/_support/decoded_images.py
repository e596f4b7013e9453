"""Decoding all images of a folder once, and caching them as a memory-mapped array if it is small enough."""

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import PlainValidator, TypeAdapter
from torch import Tensor

from debiasctl.api import DataError, atomic_folder, made_once, writing
from debiasctl.api.arrays import read_header
from debiasctl.api.files import one_line, open_regular, read_json
from debiasctl.builtin.datasets._support.image_decoding import decode
from debiasctl.builtin.datasets._support.image_files import ImageSource
from debiasctl.builtin.datasets._support.image_layout import Layout
from debiasctl.builtin.datasets._support.image_reading import Unreadable, check_readable, each_file
from debiasctl.builtin.datasets._support.image_table import ImageFiles, without

logger = logging.getLogger(__name__)

MAX_DECODED_BYTES = 4 * 2**30  # larger sets are decoded at every read
CONTENTS = "contents.json"
_LABELS = 10_000  # labels written at once

LayoutWithout = Callable[[tuple[str, ...]], Layout]


def _name(value: Any) -> str:
    """A file's name, which need not be valid text, as pydantic's own would be."""
    if not isinstance(value, str):
        raise ValueError("not a name")
    return value


@dataclass(frozen=True)
class Contents:
    """The facts about a folder's images that are known after decoding all of them.

    `cropped` is the number of images that were not square, and the median share of their pixels that a crop left out;
    `transparent` is the number of those with an alpha channel. Both are None if the headers were not looked at.
    """

    image_size: int
    channels: int
    num_train: int
    num_heldout: int
    skipped: tuple[Annotated[str, PlainValidator(_name)], ...]
    content_hash: str
    cropped: tuple[int, float] | None = None
    transparent: int | None = None


def read_contents(folder: Path) -> Contents | None:
    """Read the stored contents of images decoded earlier, or return None if there are none.

    Raises:
        DataError: if they are damaged.
    """
    path = folder / CONTENTS
    try:
        raw = read_json(path, limit=2**30)  # it names every file that was skipped
        contents = TypeAdapter(Contents).validate_python(raw)
        if min(contents.image_size, contents.channels, contents.num_train, contents.num_heldout) < 1:
            raise ValueError("it states a number below 1")
        return contents
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _damaged(folder, error) from error


def read_array(folder: Path, contents: Contents) -> Tensor | None:
    """Map the array of all images, uint8 [N, C, H, W], training images first; None if they were too many to store.

    Raises:
        DataError: if it is damaged.
    """
    path = folder / "images.npy"
    if not path.exists():
        return None
    size = contents.image_size
    num_images = contents.num_train + contents.num_heldout
    try:
        with open_regular(path) as stream:
            shape, _, dtype, _ = read_header(stream)
        if dtype != np.uint8 or shape[1:] != (contents.channels, size, size) or shape[0] < num_images:
            raise ValueError(f"shape {shape} of {dtype}")
        array = np.load(path, mmap_mode="c")[:num_images]
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(folder, error) from error
    return torch.from_numpy(array)


def decode_all(
    folder: Path,
    source: ImageSource,
    layout_without: LayoutWithout,
    *,
    image_size: int,
    channels: int,
    skip_unreadable: bool,
    cropped: tuple[int, float] | None,
    transparent: int | None,
) -> Contents:
    """Decode every image and write the files for `read_contents` and `read_array`, unless they exist.

    `layout_without` gives the layout of the files without those that cannot be read. Folders beside `folder` that were
    written for earlier states of the same images are removed.

    Raises:
        DataError: if files cannot be read and `skip_unreadable` is not set, or too few can be read.
    """

    def decode_and_write() -> Contents:
        with writing(folder):
            for earlier in folder.parent.glob("*"):
                shutil.rmtree(earlier)
        layout = layout_without(())
        _announce(len(layout.train) + len(layout.heldout), source.path)
        with atomic_folder(folder) as temporary:
            write = partial(_write, temporary, source, image_size=image_size, channels=channels)
            contents = write(layout, skip_unreadable=skip_unreadable)
            if contents.skipped and contents.num_train + contents.num_heldout > 1 and not layout.heldout_folder:
                left = [without(files, contents.skipped) for files in (layout.train, layout.heldout)]
                again = layout_without(contents.skipped)
                # a class may have lost the image that it was to be trained on
                if not all(map(_same_files, left, (again.train, again.heldout))):
                    contents = write(again, skip_unreadable=False, already_skipped=contents.skipped)
            if not contents.num_train or not contents.num_heldout:
                raise DataError(
                    f"{source.path}: without the {len(contents.skipped)} unreadable images, {contents.num_train} "
                    f"remain to train on and {contents.num_heldout} to hold out. Repair some of them"
                )
            contents = replace(contents, cropped=cropped, transparent=transparent)
            (temporary / CONTENTS).write_text(json.dumps(asdict(contents)))
        return contents

    # the lock is the images', not that of one state of them, because earlier states are removed
    return made_once(folder.parent, find=partial(read_contents, folder), make=decode_and_write)


@cache
def _announce(num: int, path: Path) -> None:
    """Log the decoding once per process: options that a hint tries decode the same images again."""
    logger.info("decoding %d images of %s", num, path)


def _same_files(first: ImageFiles, second: ImageFiles) -> bool:
    return bool(np.array_equal(first.rows, second.rows))


def _write(
    folder: Path,
    source: ImageSource,
    layout: Layout,
    *,
    image_size: int,
    channels: int,
    skip_unreadable: bool,
    already_skipped: tuple[str, ...] = (),
) -> Contents:
    num_files = len(layout.train) + len(layout.heldout)
    shape = (num_files, channels, image_size, image_size)
    header, size = npy_header(shape), int(np.prod(shape, dtype=np.int64))
    digest = hashlib.sha256()
    unreadable: list[Unreadable] = []
    num_readable = []
    num_kept = 0
    # written, not mapped: on a full disk the system refuses a write, and kills a process that fills a mapped page
    with open(folder / "images.npy", "wb") if size <= MAX_DECODED_BYTES else nullcontext() as stored:
        if stored is not None:
            stored.write(header)
        for files in (layout.train, layout.heldout):
            for result in each_file(source, files, partial(decode, size=image_size, channels=channels)):
                if isinstance(result, Unreadable):
                    unreadable.append(result)
                    continue
                pixels = result.tobytes()
                digest.update(pixels)
                if stored is not None:
                    stored.write(pixels)
                num_kept += 1
            num_readable.append(num_kept)
        if stored is not None:
            stored.truncate(len(header) + size)  # where images were left out
    if not skip_unreadable:
        check_readable(source, unreadable, num_files, skippable=True)
    skipped = already_skipped or tuple(file.name for file in unreadable)
    num_train = num_readable[0]
    num_heldout = num_kept - num_train
    # the pixels and everything else that defines the set, without paths and file names except skipped ones
    train, heldout = (without(files, skipped) for files in (layout.train, layout.heldout))
    rest = [image_size, channels, num_train, num_heldout, skipped]
    for text in (
        f"[{json.dumps(layout.classes)}, ",
        *_labels_json(layout, train, heldout),
        f", {json.dumps(rest)[1:]}",
    ):
        digest.update(text.encode())
    return Contents(image_size, channels, num_train, num_heldout, skipped, digest.hexdigest())


def _labels_json(layout: Layout, *splits: ImageFiles) -> Iterator[str]:
    """Yield `json.dumps` of the list of all images' labels in parts, since there can be many millions."""
    if not layout.classes:
        yield "null"
        return
    before = "["
    for files in splits:
        for start in range(0, len(files), _LABELS):
            part = layout.labels(files[start : start + _LABELS])
            yield before + json.dumps(part)[1:-1]
            before = ", "
    yield "]"


def npy_header(shape: tuple[int, ...]) -> bytes:
    """What stands before the bytes of an array of this shape in an .npy file."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"shape": shape, "fortran_order": False, "descr": "|u1"})
    return header.getvalue()


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"the cached images in {folder} are damaged ({one_line(error)}). Remove that folder: it is made again"
    )
