"""All images of a folder, a zip or an npz, unchanged, to be measured or measured against."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, field_validator
from torch import Tensor

from debiasctl.api import (
    ArraySplit,
    DataError,
    DataLocation,
    Dataset,
    DatasetInfo,
    LoadedDataset,
    PluginOptions,
    Split,
    UsageError,
    sha256_file,
)
from debiasctl.builtin.datasets._support.decoded_images import Unreadable, each_file
from debiasctl.builtin.datasets._support.image_decoding import decode, read_header
from debiasctl.builtin.datasets._support.image_files import SPLIT_FOLDERS, ImageFile, ImageSource, open_source
from debiasctl.builtin.datasets._support.npz_images import read_npz

_SHOWN = 3  # unreadable files named in a message


class Images(Dataset):
    """Every image of a folder, .zip or .npz, none held out: for evaluation. To train on images, use folder.

    Image files may lie anywhere below the folder; an npz holds uint8 [N, H, W, C] (or [N, H, W]) as `images` or
    `arr_0`. All must be square and of one size: nothing is cropped or resized. Files are decoded at every read, so that
    only a batch of them is in memory.

    Labels are read if there are any, because they show how often each class was drawn: `labels` or `arr_1` of an npz,
    or the sub-folders that all files lie in, if there are at least two. The data set nevertheless has no named classes,
    because no classifier can be trained without held-out images.
    """

    class Options(PluginOptions):
        """The options of images."""

        path: str = Field(min_length=1, description="folder, .zip or .npz of images")

        @field_validator("path")
        @classmethod
        def _absolute(cls, path: str) -> str:
            return str(Path(path).expanduser().absolute())

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._path = Path(options.path)

    def info(self, location: DataLocation) -> DatasetInfo:
        """Read the files' headers, or a whole npz.

        Raises:
            UsageError: if there is no such folder or file.
            DataError: if it cannot be read, or its images have different sizes.
        """
        split, channels, size = self._split
        return DatasetInfo(size, channels, (), len(split), 0)

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Return no settings, since these images are not for training."""
        return {}

    def load(self, location: DataLocation) -> LoadedDataset:
        """Load all images as the training split.

        Raises:
            UsageError, DataError: if `info` raises it.
        """
        split, channels, size = self._split
        empty = ArraySplit(torch.empty(0, channels, size, size, dtype=torch.uint8))
        digest = _files_hash(split) if isinstance(split, FileSplit) else sha256_file(self._path)
        return LoadedDataset(self.info(location), split, empty, digest)

    @cached_property
    def _split(self) -> tuple[Split, int, int]:
        """The images, their channels and their size."""
        if not self._path.exists():
            raise UsageError(f"{self._path} does not exist. Give a folder, a .zip or an .npz of images")
        if not self._path.is_dir():
            kind = self._path.suffix.lower()
            if kind == ".npz":
                array, labels = read_npz(self._path)
                return ArraySplit(array, labels), array.shape[1], array.shape[2]
            if kind != ".zip":
                raise UsageError(f"{self._path} is neither a folder nor a .zip or .npz of images. Give one of these")
        source = open_source(self._path)
        channels, size = _format(source)
        return FileSplit(source, source.files, channels, size, class_numbers(source.files)), channels, size


@dataclass(frozen=True)
class FileSplit:
    """Image files that several threads decode at every read; `targets` is int64 [N] or None."""

    source: ImageSource
    files: Sequence[ImageFile]
    channels: int
    size: int
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.files)

    def images(self, indices: Tensor) -> Tensor:
        """Decode the images at `indices`, uint8 [N, C, H, W].

        Raises:
            DataError: if a file cannot be decoded.
        """
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

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


def class_numbers(files: Sequence[ImageFile]) -> Tensor | None:
    """Number the classes of files, int64 [N], if all lie in sub-folders of which there are at least two; else None.

    Classes are numbered by name. A single folder that holds all files counts as the root; train/, val/ and test/ are
    not classes.
    """
    for depth in (0, 1):
        folders = [file.name.split("/")[depth] if file.name.count("/") > depth else "" for file in files]
        numbers = {name: number for number, name in enumerate(sorted(set(folders)))}
        if "" in numbers:
            return None
        if len(numbers) > 1:
            splits = numbers.keys() & set(SPLIT_FOLDERS)
            return None if splits else torch.tensor([numbers[name] for name in folders], dtype=torch.int64)
    return None


def _format(source: ImageSource) -> tuple[int, int]:
    """Read (channels, size) of all files; they are grey if all are stored as grey.

    Raises:
        DataError: if a file is not an image, or the images are not square and of one size.
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
        what = "images have different sizes" if others else "images are not square"
        examples = ", ".join(f"{name} ({width}x{height})" for (width, height), name in shapes.items())
        raise DataError(f"{source.path}: {what}: {examples}. Resize all of them to one square size first")
    return 1 if grey else 3, width


def _check(path: Path, unreadable: Sequence[Unreadable]) -> None:
    if unreadable:
        named = "; ".join(f"{file.name} ({file.reason})" for file in unreadable[:_SHOWN])
        more = f"; and {len(unreadable) - _SHOWN} more" if len(unreadable) > _SHOWN else ""
        raise DataError(f"images in {path} cannot be read: {named}{more}. Repair or remove them")


def _files_hash(split: FileSplit) -> str:
    """Compute the SHA-256 of the files' names and bytes, in order."""
    digest = hashlib.sha256()
    for file in split.files:
        with split.source.open(file.name) as stream:
            content = hashlib.sha256(stream.read()).hexdigest()
        digest.update(json.dumps([file.name, content]).encode())
    return digest.hexdigest()
