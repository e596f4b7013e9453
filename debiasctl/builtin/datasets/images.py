"""All images of a folder, a zip, a tar or an npz, unchanged, to be measured or measured against."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
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
from debiasctl.builtin.datasets._support.image_files import (
    SPLIT_FOLDERS,
    ImageFile,
    ImageSource,
    absolute_path,
    named,
)
from debiasctl.builtin.datasets._support.image_labels import labels_by_file, stored_in_shards
from debiasctl.builtin.datasets._support.image_reading import DecodingSplit, check_readable, read_formats
from debiasctl.builtin.datasets._support.image_source import open_source
from debiasctl.builtin.datasets._support.npz_images import read_npz

_LOG = logging.getLogger(__name__)


class Images(Dataset):
    """Every image of a folder, .zip, .tar or .npz, none held out: for evaluation. To train on images, use folder.

    Image files may lie anywhere below the folder; an npz holds uint8 [N, H, W, C] (or [N, H, W]) as `images` or
    `arr_0`. All must be square and of one size: nothing is cropped or resized. Files are decoded at every read, so that
    only a batch of them is in memory.

    Labels are read if there are any, because they show how often each class was drawn: `labels` or `arr_1` of an npz,
    dataset.json, or the sub-folders that all files lie in, if there are at least two and they do not look like storage
    (00000/, 00001/, ...). The data set nevertheless has no named classes,
    because no classifier can be trained without held-out images.
    """

    class Options(PluginOptions):
        """The options of images."""

        path: str = Field(min_length=1, description="folder, .zip, .tar or .npz of images")

        @field_validator("path", mode="before")
        @classmethod
        def _absolute(cls, path: Any) -> Any:
            return str(absolute_path(path)) if isinstance(path, str) else path

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
        digest = _files_hash(split) if isinstance(split, DecodingSplit) else sha256_file(self._path)
        return LoadedDataset(self.info(location), split, empty, digest)

    @cached_property
    def _split(self) -> tuple[Split, int, int]:
        """The images, their channels and their size."""
        if not self._path.exists():
            raise UsageError(f"{self._path} does not exist. Give a folder, a .zip, .tar or .npz of images")
        if not self._path.is_dir():
            kind = self._path.suffix.lower()
            if kind == ".npz":
                array, labels = read_npz(self._path)
                return ArraySplit(array, labels), array.shape[1], array.shape[2]
        source = open_source(self._path)
        for name, reason in source.unreadable:
            raise DataError(f"{self._path}: {named(name)} cannot be read ({reason}). Repair or remove it")
        channels, size = _format(source)
        targets = _targets(source)
        split = DecodingSplit(source, source.files, targets, size, channels, skippable=False)
        return split, channels, size


def _targets(source: ImageSource) -> Tensor | None:
    if source.labels_stamp is not None:
        labels = labels_by_file(source)
        return None if labels is None else torch.from_numpy(labels.numbers)
    return class_numbers(source.files)


def class_numbers(files: Sequence[ImageFile]) -> Tensor | None:
    """Number the classes of files, int64 [N], if all lie in sub-folders of which there are at least two; else None.

    Classes are numbered by name. A single folder that holds all files counts as the root; train/, val/ and test/, and
    folders that look like storage, are not classes.
    """
    for depth in (0, 1):
        folders = [file.name.split("/")[depth] if file.name.count("/") > depth else "" for file in files]
        numbers = {name: number for number, name in enumerate(sorted(set(folders)))}
        if "" in numbers:
            return None
        if len(numbers) > 1:
            targets = torch.tensor([numbers[name] for name in folders], dtype=torch.int64)
            if stored_in_shards(list(numbers), torch.bincount(targets).tolist()):
                _LOG.warning(
                    "the folders %s/, %s/, ... look like storage and are not taken for classes. If they are, state the "
                    "labels in dataset.json or in an npz",
                    *list(numbers)[:2],
                )
                return None
            return None if numbers.keys() & set(SPLIT_FOLDERS) else targets
    return None


def _format(source: ImageSource) -> tuple[int, int]:
    """Read (channels, size) of all files.

    Raises:
        DataError: if a file is not an image, or the images are not square and of one size.
    """
    found = read_formats(source, source.files)
    check_readable(source, found.unreadable, len(source.files), skippable=False)
    size = found.common_size()
    if size is None:
        raise DataError(f"{source.path}: {found.differences()}. Resize all of them to one square size first")
    return 1 if found.grey else 3, size


def _files_hash(split: DecodingSplit) -> str:
    """Compute the SHA-256 of the files' names and bytes, in order."""
    digest = hashlib.sha256()
    for file in split.files:
        with split.source.open(file.name) as stream:
            content = hashlib.sha256(stream.read()).hexdigest()
        digest.update(json.dumps([file.name, content]).encode())
    return digest.hexdigest()
