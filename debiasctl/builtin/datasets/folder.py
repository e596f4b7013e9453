"""Folders and zips of images."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import PIL
import torch
from pydantic import Field, field_validator

from debiasctl.api import (
    ArraySplit,
    DataLocation,
    Dataset,
    DatasetInfo,
    LoadedDataset,
    PluginOptions,
    Split,
    UsageError,
    content_key,
)
from debiasctl.api.files import expanded
from debiasctl.builtin.datasets._support import decoded_images, image_decoding
from debiasctl.builtin.datasets._support.decoded_images import Contents
from debiasctl.builtin.datasets._support.folder_settings import recommended_settings
from debiasctl.builtin.datasets._support.image_files import ImageSource, open_source
from debiasctl.builtin.datasets._support.image_layout import Layout, read_layout
from debiasctl.builtin.datasets._support.image_reading import DecodingSplit, check_readable, read_formats
from debiasctl.builtin.datasets._support.image_table import without

_FORMATS: dict[str, tuple[int, int]] = {}  # image size and channels, by Folder._key


class Folder(Dataset):
    """A folder or .zip of images (png, jpg, bmp, webp, gif, tiff); class names come from its sub-folders.

    Images lie directly in the folder (no classes) or in one sub-folder per class. Top-level train/, val/ and test/
    are splits: train/ is trained on and val/ is held out; test/ is held out only if there is no val/. Without val/ and
    test/ a share of the images is held out, chosen by a hash of each image's path, so that adding images moves no
    other. Hidden files and __MACOSX are ignored; a single folder that holds everything in a zip counts as its root.

    Images of any mode are converted to 8-bit RGB or grey: EXIF orientation is applied, transparency is laid over white,
    16 bits are scaled to 8, and only the first frame is used. An image of another shape is cropped to its middle square
    and resized with an antialiased Lanczos filter. Decoded images are cached.
    """

    class Options(PluginOptions):
        """The options of folder."""

        path: str = Field(min_length=1, description="folder or .zip of images")
        image_size: int | None = Field(
            None, ge=4, le=1024, description="height and width to resize images to; null: their own, if all are equal"
        )
        mode: Literal["auto", "rgb", "grey"] = Field(
            "auto", description="rgb, grey, or auto: grey if every file is stored as grey"
        )
        heldout: float = Field(0.1, gt=0, lt=1, description="share held out if there is neither val/ nor test/")
        skip_unreadable: bool = Field(False, description="leave out files that cannot be read, with a warning")

        @field_validator("path")
        @classmethod
        def _absolute(cls, path: str) -> str:
            # a run resumed from another working directory must find its images
            return str(expanded(path).absolute())

    options: Options

    def info(self, location: DataLocation) -> DatasetInfo:
        """Read the file names and headers; with `skip_unreadable`, decode all images once.

        Raises:
            UsageError: if there is no such folder or zip, or `image_size` is needed.
            DataError: if the layout is ambiguous, or a file cannot be read.
        """
        contents = decoded_images.read_contents(self._cache(location))
        if contents is None and self.options.skip_unreadable:
            contents = self._decoded(location)
        if contents is not None:
            return self._info(contents)
        size, channels = self._format
        layout = self._layout
        return DatasetInfo(size, channels, layout.classes, len(layout.train), len(layout.heldout))

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings that depend on the image size."""
        return recommended_settings(self.info(location).image_size)

    def load(self, location: DataLocation) -> LoadedDataset:
        """Load the images, decoding them unless they are cached.

        Raises:
            UsageError, DataError: if `info` raises it.
        """
        contents = self._decoded(location)
        if contents.skipped:
            decoded_images.logger.warning(
                "%s: %d unreadable images are left out: %s%s",
                self._source.path,
                len(contents.skipped),
                ", ".join(contents.skipped[:5]),
                ", ..." if len(contents.skipped) > 5 else "",
            )
        array = decoded_images.read_array(self._cache(location), contents)
        splits: list[Split] = []
        start = 0
        for everything in (self._layout.train, self._layout.heldout):
            files = without(everything, contents.skipped)
            labels = self._layout.labels(files)
            targets = None if labels is None else torch.tensor(labels, dtype=torch.int64)
            if array is None:
                size, channels = contents.image_size, contents.channels
                splits.append(DecodingSplit(self._source, files, targets, size, channels, skippable=True))
            else:
                splits.append(ArraySplit(array[start : start + len(files)], targets))
            start += len(files)
        return LoadedDataset(self._info(contents), splits[0], splits[1], contents.content_hash)

    def _info(self, contents: Contents) -> DatasetInfo:
        return DatasetInfo(
            contents.image_size, contents.channels, self._layout.classes, contents.num_train, contents.num_heldout
        )

    @cached_property
    def _source(self) -> ImageSource:
        return open_source(Path(self.options.path))

    @cached_property
    def _layout(self) -> Layout:
        return read_layout(self._source.files, self._source.path, heldout_fraction=self.options.heldout)

    @cached_property
    def _key(self) -> str:
        """The cache key of the images and options; the part after the slash changes when the files do."""
        code = [image_decoding.VERSION, PIL.__version__]
        listing = hashlib.sha256()
        for file in self._source.files:
            listing.update(json.dumps([file.name, *file.stamp]).encode())
        return f"{content_key(self.options.model_dump())}/{content_key([*code, listing.hexdigest()])}"

    def _cache(self, location: DataLocation) -> Path:
        return location.cache_dir / "datasets" / "folder" / self._key

    def _decoded(self, location: DataLocation) -> Contents:
        folder = self._cache(location)
        contents = decoded_images.read_contents(folder)
        if contents is not None:
            return contents
        size, channels = self._format
        return decoded_images.decode_all(
            folder,
            self._source,
            self._layout,
            image_size=size,
            channels=channels,
            skip_unreadable=self.options.skip_unreadable,
        )

    @property
    def _format(self) -> tuple[int, int]:
        """The (image size, channels), determined once per process for a state of the images."""
        if self._key not in _FORMATS:
            _FORMATS[self._key] = self._read_format()
        return _FORMATS[self._key]

    def _read_format(self) -> tuple[int, int]:
        """Read (image size, channels) from the files' headers, unless the options state them."""
        size, mode = self.options.image_size, self.options.mode
        if size is not None and mode != "auto":
            return size, 1 if mode == "grey" else 3
        layout = self._layout
        found = read_formats(self._source, layout.train, layout.heldout)
        num_files = len(layout.train) + len(layout.heldout)
        if not self.options.skip_unreadable or len(found.unreadable) == num_files:
            check_readable(self._source, found.unreadable, num_files, skippable=True)
        if mode == "auto":
            mode = "grey" if found.grey else "rgb"
        size = size or found.common_size()
        if size is None:
            path = self._source.path
            raise UsageError(
                f"{path}: {found.differences()}. Choose a size to resize them to, for example: "
                f"debiasctl train folder:path={path},image_size={_power_of_two(found.smallest)}"
            )
        return size, 1 if mode == "grey" else 3


def _power_of_two(bound: int) -> int:
    """The largest power of two in [8, 256] that does not exceed `bound`, or 8."""
    return min(256, max(8, 1 << (bound.bit_length() - 1)))
