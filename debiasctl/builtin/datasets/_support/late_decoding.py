"""Images that are decoded when a training asks for them, because they are too many or too large to be decoded first."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import DataError, DatasetInfo, LoadedDataset
from debiasctl.builtin.datasets._support import decoded_images
from debiasctl.builtin.datasets._support.image_decoding import UnreadableImageError, decode, read_header
from debiasctl.builtin.datasets._support.image_files import FolderSource, ImageSource, stamp_of
from debiasctl.builtin.datasets._support.image_layout import Layout
from debiasctl.builtin.datasets._support.image_reading import DecodingSplit
from debiasctl.builtin.datasets._support.image_source import open_source
from debiasctl.builtin.datasets._support.image_table import ImageFiles
from debiasctl.builtin.datasets._support.recorded_images import load_recorded

MANY = 250_000  # images; more are not all looked at before a training starts

Identify = Literal["auto", "content", "files"]
IDENTIFY: Any = Field(
    "auto",
    description="content: read all images before a training; files: know them by their names, sizes and times until "
    "all have been read; auto: files beyond 250,000 images, or 4 GiB of pixels",
)


_KEPT = 300.0  # seconds that the listing of many files is used again within a process
_listed: dict[Path, tuple[float, FolderSource]] = {}


def listed(path: Path) -> ImageSource:
    """The images of a folder or archive, whose listing is used again for a while where it took long.

    A file that is written again in that time is noticed when it is read: see `LateSplit`.

    Raises:
        UsageError, DataError: if `open_source` raises it.
    """
    when, source = _listed.pop(path, (0.0, None))
    if source is not None and time.monotonic() - when < _KEPT and source.has_its_files():
        _listed[path] = when, source
        return source
    found = open_source(path)
    if isinstance(found, FolderSource) and len(found.files) > MANY:
        _listed.clear()
        _listed[path] = time.monotonic(), found
    return found


def is_late(num: int, *, channels: int, image_size: int) -> bool:
    """Whether images are too many, or too large, to be decoded before a training."""
    return num > MANY or num * channels * image_size**2 > decoded_images.MAX_DECODED_BYTES


@dataclass(frozen=True)
class Assumed:
    """What some images showed, and all others must have: this size, or that they are grey."""

    image_size: int | None
    grey: bool

    def decode(self, stream: IO[bytes], *, size: int, channels: int) -> npt.NDArray[np.uint8]:
        """Decode an image.

        Raises:
            UnreadableImageError: if it is damaged, or not as assumed.
        """
        if self.image_size is not None or self.grey:
            header = read_header(stream)
            stream.seek(0)
            if self.image_size is not None and (header.width, header.height) != (size, size):
                raise UnreadableImageError(
                    f"it is {header.width}x{header.height}, unlike others, which are {size}x{size}: to resize it, "
                    f"state image_size={size}"
                )
            if self.grey and not header.grey:
                raise UnreadableImageError("it is in colour, unlike others: state mode=rgb or mode=grey")
        return decode(stream, size=size, channels=channels)


@dataclass(frozen=True)
class LateSplit(DecodingSplit):
    """A split of a folder or archive, each file of which must be what it was when it was listed."""

    def images(self, indices: Tensor) -> Tensor:
        """Decode the images at `indices`, uint8 [N, C, H, W].

        Raises:
            DataError: if a file cannot be decoded, or has changed since it was listed.
        """
        pixels = super().images(indices)
        if self.source.path.is_dir():  # an archive's source sees to its members
            for index in indices.tolist():
                file = self.files[index]
                if stamp_of(self.name(index)) != file.stamp:
                    raise DataError(
                        f"{self.name(index)} has changed while it was in use. Restore it; or, if it was meant to "
                        "change, train a new run on the images"
                    )
        return pixels

    def name(self, index: int) -> str:
        """The path of an image's file."""
        return f"{self.source.path}/{self.files[index].name}"


def load_late(
    folder: Path,
    source: ImageSource,
    layout: Layout,
    info: DatasetInfo,
    *,
    same_size: bool,
    same_mode: bool,
    files_hash: str,
) -> LoadedDataset:
    """The data set of a source whose images are kept in `folder` as they are decoded.

    `same_size` and `same_mode` say that some images were looked at, and all others have to be like them.
    """
    size, channels = info.image_size, info.channels
    assumed = Assumed(size if same_size else None, grey=same_mode and channels == 1)

    def split(files: ImageFiles) -> LateSplit:
        numbers = None if layout.numbers is None else torch.from_numpy(layout.numbers[files.rows])
        return LateSplit(source, files, numbers, size, channels, skippable=True, decode=assumed.decode)

    train, heldout = split(layout.train), split(layout.heldout)
    return load_recorded(folder, info, train, heldout, files_hash=files_hash, at_once=False)
