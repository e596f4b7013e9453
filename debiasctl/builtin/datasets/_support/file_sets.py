"""The common base of published sets that are stored as image files, with lists of the official splits."""

import hashlib
import json
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from debiasctl.api import DataError, DataLocation, Dataset, DatasetInfo, ImageProblem, LoadedDataset, PluginOptions
from debiasctl.builtin.datasets._support.downloads import cached_folder, fetch
from debiasctl.builtin.datasets._support.folder_settings import recommended_settings
from debiasctl.builtin.datasets._support.image_files import ImageSource, named
from debiasctl.builtin.datasets._support.image_layout import Layout
from debiasctl.builtin.datasets._support.listed_images import ListedImages
from debiasctl.builtin.datasets._support.published import archive_in, folders, help_text, torchvision_set

Place = tuple[bool, int]  # whether an image is trained on, and the number of its class (0 without classes)


class FileSetOptions(PluginOptions):
    """The options of published sets that are stored as image files."""

    image_size: int = Field(64, ge=4, le=1024, description="height and width of the middle squares that are used")
    mode: Literal["rgb", "grey"] = Field("rgb", description="rgb, or grey by ITU-R 601 luma")
    skip_unreadable: bool = Field(False, description="leave out files that cannot be read, with a warning")


class FileSet(Dataset):
    """The base of published sets that are stored as image files; they are decoded and cached as those of `folder`."""

    title: ClassVar[str]
    name: ClassVar[str]  # in commands and in the cache
    torchvision_name: ClassVar[str]  # torchvision's class, which downloads the files
    base: ClassVar[str]  # torchvision's folder of the files, if it has one
    archive: ClassVar[str | None] = None  # the file that the published set is packed in
    markers: ClassVar[tuple[str, ...]]  # names in that folder, one of which shows that the set is there
    needed: ClassVar[tuple[str, ...]]  # what the set consists of, as the message says it

    options: FileSetOptions

    @abstractmethod
    def published(self) -> tuple[int, int, tuple[str, ...]] | None:
        """The published numbers of training and held-out images and the classes, if they can be downloaded."""

    @abstractmethod
    def source(self, folder: Path) -> ImageSource:
        """The images in a folder of the set."""

    @abstractmethod
    def places(self, folder: Path, source: ImageSource) -> tuple[tuple[str, ...], Mapping[str, Place]]:
        """Read the classes, and the place of each image by its name in the source.

        Raises:
            DataError: if a list is missing or of another form.
        """

    def download(self, folder: Path) -> None:
        """Let torchvision download the files into `folder`."""
        torchvision_set(self.torchvision_name)(str(folder), download=True)

    @abstractmethod
    def addresses(self) -> Sequence[str]:
        """Where the files are published."""

    def info(self, location: DataLocation) -> DatasetInfo:
        """Read the official lists if the files are there; otherwise return the published facts.

        Raises:
            DataError: if there are no files and they cannot be downloaded, or some are missing.
        """
        folder = self._find(location)
        if folder is not None:
            return self._images(folder).info(location)
        facts = self.published()
        if facts is None or self._packed(location) is not None:
            raise DataError(self._help(location))
        size, channels = self.options.image_size, 1 if self.options.mode == "grey" else 3
        return DatasetInfo(size, channels, facts[2], facts[0], facts[1])

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings that depend on the image size; photographs are mirrored."""
        return {**recommended_settings(self.options.image_size), "data": {"horizontal_flip": True}}

    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the files in place, downloading them into the cache if they are not found and can be downloaded.

        Raises:
            DataError: if they cannot be had, are incomplete, or an image cannot be read.
        """
        return self._images(self._there(location)).load(location)

    _listed: tuple[Path, ListedImages] | None = None

    def _images(self, folder: Path) -> ListedImages:
        """The images in a folder of the set, which is listed once."""
        if self._listed is None or self._listed[0] != folder:
            self._listed = folder, self._list(folder)
        return self._listed[1]

    def _list(self, folder: Path) -> ListedImages:
        source = self.source(folder)
        if source.unreadable and not self.options.skip_unreadable:
            name, why = source.unreadable[0]
            raise DataError(
                f"{source.path}: {named(name)} cannot be read ({why}). Repair that, or leave it out "
                "(skip_unreadable=true)"
            )
        classes, places = self.places(folder, source)
        options = self.options.model_dump(include=set(FileSetOptions.model_fields))
        variant = hashlib.sha256(
            json.dumps([self.name, self.options.model_dump()], sort_keys=True).encode()
        ).hexdigest()
        stated = ListedImages.Options(path=str(source.path), **options)
        return ListedImages(stated, source, _layout(source, classes, places, self.title), variant=variant)

    def problems(self, location: DataLocation, *, progress: Callable[[int, int], None]) -> Iterator[ImageProblem]:
        """Decode every image file of the official splits."""
        images = self._images(self._there(location))
        return images.problems(location, progress=progress)

    def stored_sizes(self, location: DataLocation) -> Counter[tuple[int, int]]:
        """Read the headers of all image files of the official splits."""
        return self._images(self._there(location)).stored_sizes(location)

    def _there(self, location: DataLocation) -> Path:
        """The folder of the files, which are downloaded if they are not found and can be."""
        folder = self._find(location)
        if folder is not None:
            return folder
        if self.published() is None or self._packed(location) is not None:
            raise DataError(self._help(location))
        cached = cached_folder(location, self.name)
        fetch(cached, self.download, help_text=self._help(location))
        return cached / self.base

    @property
    def _place(self) -> dict[str, str]:
        return {"name": self.name, "title": self.title, "base": self.base}

    def _find(self, location: DataLocation) -> Path | None:
        found = (one for one in folders(location, **self._place) if any((one / name).exists() for name in self.markers))
        return next(found, None)

    def _packed(self, location: DataLocation) -> Path | None:
        return None if self.archive is None else archive_in(location, archive=self.archive, **self._place)

    def _help(self, location: DataLocation) -> str:
        packed = self._packed(location)
        notes = (
            [] if packed is None else [f"{packed} is there, and is read once it is unpacked: {self.unpacking(packed)}"]
        )
        return help_text(location, files=self.needed, addresses=self.addresses(), notes=notes, **self._place)

    def unpacking(self, archive: Path) -> str:
        """The command that unpacks the archive where it lies."""
        return f"tar -xf {archive} -C {archive.parent}"


def _layout(source: ImageSource, classes: tuple[str, ...], places: Mapping[str, Place], title: str) -> Layout:
    """The official splits of the files.

    Raises:
        DataError: if listed images are missing.
    """
    count = len(source.files)
    part, numbers = np.full(count, -1, dtype=np.int8), np.full(count, -1, dtype=np.int64)
    for row, file in enumerate(source.files):
        place = places.get(file.name)
        if place is not None:
            part[row], numbers[row] = place
    num_missing = len(places) - int((part >= 0).sum())
    if num_missing:
        there = {file.name for file in source.files}
        first = next(name for name in places if name not in there)
        raise DataError(
            f"{source.path} lacks {num_missing:,} of {len(places):,} images of {title}, first {first}. Fetch them again"
        )
    train, heldout = (source.files.choose(part == number) for number in (1, 0))
    return Layout(classes, train, heldout, numbers if classes else None)


def read_list(path: Path, read: Callable[[Path], Any], *, title: str) -> Any:
    """Read one of a set's lists.

    Raises:
        DataError: if it is missing or of another form.
    """
    if not path.is_file():
        raise DataError(f"{path.parent} lacks {path.name} of {title}. Add it")
    try:
        return read(path)
    except MemoryError:
        raise
    except Exception as error:  # the reader of .mat files raises errors of any type
        raise DataError(
            f"{path} cannot be read as a list of {title} ({type(error).__name__}). Fetch it again"
        ) from error
