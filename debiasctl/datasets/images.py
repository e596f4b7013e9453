"""Images as they are: every image of a folder, a zip or an npz, to be measured or measured against."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from debiasctl.api import ArraySplit, DataLocation, DatasetInfo, LoadedDataset, PluginOptions, Split
from debiasctl.datasets.decoded_images import Unreadable, each_file
from debiasctl.datasets.image_decoding import decode, read_header
from debiasctl.datasets.image_files import ImageFile, ImageSource, open_source
from debiasctl.errors import DataError, UsageError
from debiasctl.files import sha256_file

_ARRAYS = ("images", "arr_0")  # debiasctl's name, and guided-diffusion's
_SHOWN = 3  # unreadable files named in a message


class Images:
    """Every image of a folder, .zip or .npz, none held out: for evaluation. To train on images, use folder.

    Image files lie anywhere below the folder and have no classes; an npz holds uint8 [N, H, W, C] (or [N, H, W]) as
    `images` or `arr_0`. All are square and of one size: nothing is cropped or resized. Files are decoded whenever
    they are read, so that only a batch of them lies in memory.
    """

    class Options(PluginOptions):
        """Options of images."""

        path: str = Field(min_length=1, description="folder, .zip or .npz of images")

        @field_validator("path")
        @classmethod
        def _absolute(cls, path: str) -> str:
            return str(Path(path).expanduser().absolute())

    def __init__(self, options: Options) -> None:
        self.options = options
        self._path = Path(options.path)

    def info(self, location: DataLocation) -> DatasetInfo:
        """From the files' headers; an npz is read.

        Raises:
            UsageError: there is no such folder or file.
            DataError: it cannot be read, or its images are not of one size.
        """
        split, channels, size = self._split
        return DatasetInfo(size, channels, (), len(split), 0)

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """None: these images are not for training."""
        return {}

    def load(self, location: DataLocation) -> LoadedDataset:
        """All images as the training split. Raises as `info`."""
        split, channels, size = self._split
        empty = ArraySplit(torch.empty(0, channels, size, size, dtype=torch.uint8))
        digest = _files_hash(split) if isinstance(split, FileSplit) else sha256_file(self._path)
        return LoadedDataset(self.info(location), split, empty, digest)

    @cached_property
    def _split(self) -> tuple[Split, int, int]:
        """The images, their channels and their size."""
        if self._path.suffix.lower() == ".npz" and not self._path.is_dir():
            array = read_npz(self._path)
            return ArraySplit(array), array.shape[1], array.shape[2]
        source = open_source(self._path)
        channels, size = _format(source)
        return FileSplit(source, source.files, channels, size), channels, size


@dataclass(frozen=True)
class FileSplit:
    """Image files that are decoded, by several threads, whenever they are read."""

    source: ImageSource
    files: Sequence[ImageFile]
    channels: int
    size: int

    def __len__(self) -> int:
        return len(self.files)

    def images(self, indices: Tensor) -> Tensor:
        """uint8 [N, C, H, W]; raises DataError for a file that cannot be decoded."""
        files = [self.files[index] for index in indices.tolist()]
        pixels = torch.empty(len(files), self.channels, self.size, self.size, dtype=torch.uint8)
        unreadable = []
        read = partial(decode, size=self.size, channels=self.channels)
        for row, result in zip(pixels.numpy(), each_file(self.source, files, read), strict=True):
            if isinstance(result, Unreadable):
                unreadable.append(result)
            else:
                row[...] = result
        _check(self.source.path, unreadable)
        return pixels

    def labels(self, indices: Tensor) -> None:
        """None: there are no classes."""


def read_npz(path: Path) -> Tensor:
    """uint8 [N, C, H, W] from an npz's `images` or `arr_0`, uint8 [N, H, W, C] or [N, H, W].

    Raises:
        UsageError: there is no such file; DataError: it is damaged, or holds something else.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist. Give an .npz with uint8 images [N, H, W, C]")
    try:
        opened = np.load(path, allow_pickle=False)
        if not isinstance(opened, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is one array (numpy.save), no npz. Write it again with numpy.savez")
        with opened as archive:
            name = next((name for name in _ARRAYS if name in archive.files), None)
            array = None if name is None else archive[name]
            found = ", ".join(archive.files) or "nothing"
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an npz: {error}. Write it again with numpy.savez") from error
    if array is None:
        raise DataError(f"{path} holds {found}, and no images. They should be named {' or '.join(_ARRAYS)}")
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise DataError(f"{path}: the images in '{name}' hold NaN or infinity. Write finite images, as uint8")
    array = array[..., None] if array.ndim == 3 else array
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3) or array.shape[1] != array.shape[2]:
        raise DataError(
            f"{path}: '{name}' is {array.dtype} {list(array.shape)}; images must be square, grey or RGB, in 8 bits: "
            "uint8 [N, H, H, 1 or 3]"
        )
    if not len(array):
        raise DataError(f"{path}: '{name}' holds no image")
    return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()


def _format(source: ImageSource) -> tuple[int, int]:
    """(channels, size) of all files: grey where every one of them is stored so.

    Raises:
        DataError: a file that is no image, or images that are not square and of one size.
    """
    grey, unreadable = True, []
    shapes: dict[tuple[int, int], str] = {}
    for file, header in zip(source.files, each_file(source, source.files, read_header), strict=True):
        if isinstance(header, Unreadable):
            unreadable.append(header)
            continue
        grey = grey and header.grey
        if len(shapes) < 2:
            shapes.setdefault((header.width, header.height), file.name)
    _check(source.path, unreadable)
    (width, height), *others = shapes
    if others or width != height:
        what = "images are of different sizes" if others else "images are not square"
        examples = ", ".join(f"{name} ({width}x{height})" for (width, height), name in shapes.items())
        raise DataError(f"{source.path}: {what}: {examples}. Bring all of them to one square size first")
    return 1 if grey else 3, width


def _check(path: Path, unreadable: Sequence[Unreadable]) -> None:
    if unreadable:
        named = "; ".join(f"{file.name} ({file.reason})" for file in unreadable[:_SHOWN])
        more = f"; and {len(unreadable) - _SHOWN} more" if len(unreadable) > _SHOWN else ""
        raise DataError(f"images in {path} cannot be read: {named}{more}. Repair or remove them")


def _files_hash(split: FileSplit) -> str:
    """SHA-256 of the files' names and bytes, in order."""
    digest = hashlib.sha256()
    for file in split.files:
        with split.source.open(file.name) as stream:
            content = hashlib.sha256(stream.read()).hexdigest()
        digest.update(json.dumps([file.name, content]).encode())
    return digest.hexdigest()
