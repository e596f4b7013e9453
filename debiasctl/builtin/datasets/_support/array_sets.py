"""The common base of published sets whose files hold all images as arrays."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import DataError, DataLocation, Dataset, DatasetInfo, LoadedDataset, PluginOptions, hash_splits
from debiasctl.api.files import one_line
from debiasctl.builtin.datasets._support.downloads import cached_folder, fetch, unpack
from debiasctl.builtin.datasets._support.folder_settings import recommended_settings
from debiasctl.builtin.datasets._support.published import archive_in, check_files, folders, help_text, torchvision_set
from debiasctl.builtin.datasets._support.resizing import brought_to

PARTS = TRAIN, HELDOUT = "train", "heldout"


class SizeOptions(PluginOptions):
    """The options of published sets that are stored as arrays."""

    image_size: int | None = Field(
        None, ge=4, le=1024, description="height and width to resize images to; null: as published"
    )
    mode: Literal["rgb", "grey"] | None = Field(None, description="rgb, or grey by ITU-R 601 luma; null: as published")


class ArraySetOptions(SizeOptions):
    """The options of published sets that are stored as arrays, whose files may be others."""

    verify: bool = Field(
        True, description="refuse files whose MD5 is not the published one; false: any of their format"
    )


class ArraySet(Dataset):
    """The base of published sets that are stored as arrays of colour images of one size."""

    title: ClassVar[str]
    name: ClassVar[str]  # in commands and in the cache
    torchvision_name: ClassVar[str]  # torchvision's class
    base: ClassVar[str]  # torchvision's folder of the files, if it has one
    archive: ClassVar[str | None] = None  # the file that the published set is packed in
    size: ClassVar[int]
    mirrored: ClassVar[bool] = True  # whether a mirrored image is one of the set's kind

    options: SizeOptions

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The classes' names, by number."""

    @property
    @abstractmethod
    def published(self) -> tuple[int, int]:
        """The published numbers of training and held-out images."""

    @abstractmethod
    def files(self) -> list[tuple[str, str]]:
        """List (name, MD5) of each file that is read, from torchvision."""

    @abstractmethod
    def count(self, folder: Path, part: str) -> int:
        """Count the images of a part as cheaply as its files allow."""

    @abstractmethod
    def read(self, folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[Any] | None]:
        """Read images, uint8 [N, 3, size, size], and labels [N] from 0; errors of any type mean a damaged file."""

    def download(self, folder: Path) -> None:
        """Let torchvision download the files into `folder`."""
        self.torchvision(str(folder), download=True)

    def addresses(self) -> Sequence[str]:
        """Where the files are published: by default, the address of the archive, from torchvision."""
        return [str(self.torchvision.url)]

    @property
    def torchvision(self) -> Any:
        """Torchvision's class."""
        return torchvision_set(self.torchvision_name)

    def info(self, location: DataLocation) -> DatasetInfo:
        """Count the images in the files if there are files; otherwise return the published facts."""
        folder = self._find(location)
        if folder is None or any(not (folder / name).is_file() for name, _ in self.files()):
            return self._info(*self.published)
        num_train, num_heldout = (self._read_safely(partial(self.count, folder, part), folder) for part in PARTS)
        return self._info(num_train, num_heldout)

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings that depend on the image size."""
        settings = recommended_settings(self.options.image_size or self.size)
        return {**settings, "data": {"horizontal_flip": self.mirrored}}

    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the files in place, unpacking or downloading them into the cache if they are not found.

        Raises:
            DataError: if they cannot be had, are damaged, or are not as published.
        """
        folder = self._find(location)
        if folder is None:
            cached = cached_folder(location, self.name)
            packed = None if self.archive is None else archive_in(location, archive=self.archive, **self._place)
            fetch(cached, self.download if packed is None else self._unpack(packed), help_text=self._help(location))
            folder = cached / self.base
        way_on = ". To read files of this format that are others: verify=false"
        check_files(
            folder,
            self.files(),
            title=self.title,
            whole=bool(self.base),
            verify=self._verifies,
            way_on=way_on if self._may_be_others else "",
        )
        size, channels = self._format
        splits = []
        for part in PARTS:
            array, targets = self._read_part(folder, part)
            splits.append(brought_to(array, targets, image_size=size, channels=channels))
        info = self._info(*map(len, splits))
        return LoadedDataset(info, splits[0], splits[1], hash_splits(self._description(channels, size), splits))

    def _description(self, channels: int, size: int) -> dict[str, Any]:
        """What the content hash covers besides images and labels."""
        return {"name": self.name, "classes": self.classes, "shape": [channels, size, size]}

    @property
    def _may_be_others(self) -> bool:
        """Whether an option takes files that are not the published ones."""
        return isinstance(self.options, ArraySetOptions)

    @property
    def _verifies(self) -> bool:
        return self.options.verify if isinstance(self.options, ArraySetOptions) else True

    @property
    def _place(self) -> dict[str, str]:
        return {"name": self.name, "title": self.title, "base": self.base}

    @property
    def _format(self) -> tuple[int, int]:
        return self.options.image_size or self.size, 1 if self.options.mode == "grey" else 3

    def _info(self, num_train: int, num_heldout: int) -> DatasetInfo:
        size, channels = self._format
        return DatasetInfo(size, channels, self.classes, num_train, num_heldout)

    def _find(self, location: DataLocation) -> Path | None:
        """The first folder that holds a file of the set; an incomplete set is reported, not skipped."""
        names = [name for name, _ in self.files()]
        found = (one for one in folders(location, **self._place) if any((one / name).is_file() for name in names))
        return next(found, None)

    def _read_part(self, folder: Path, part: str) -> tuple[npt.NDArray[np.uint8], Tensor | None]:
        array, labels = self._read_safely(partial(self.read, folder, part), folder)
        if array.dtype != np.uint8 or array.shape[1:] != (3, self.size, self.size) or not len(array):
            raise DataError(
                f"{folder}: the {part} images are {array.dtype} {list(array.shape)}; {self.title}'s are uint8 "
                f"[N, 3, {self.size}, {self.size}]"
            )
        if labels is None or not self.classes:
            return array, None
        if len(labels) != len(array):
            raise DataError(f"{folder} holds {len(array)} {part} images, but {len(labels)} labels")
        wrong = labels[(labels < 0) | (labels >= len(self.classes))]
        if len(wrong):
            raise DataError(
                f"{folder}: a {part} label is class {wrong[0]}; {self.title} has {len(self.classes)} classes"
            )
        return array, torch.from_numpy(labels.astype(np.int64))

    def _read_safely(self, read: Callable[[], Any], folder: Path) -> Any:
        try:
            return read()
        except (DataError, MemoryError):
            raise
        except Exception as error:  # readers of pickles and .mat files raise errors of any type for damaged ones
            raise DataError(
                f"{folder}: the files of {self.title} cannot be read ({one_line(error)}). Fetch them again"
            ) from error

    def _unpack(self, archive: Path) -> Callable[[Path], None]:
        def fill(folder: Path) -> None:
            from torchvision.datasets.utils import check_integrity

            if self._verifies and not check_integrity(str(archive), self.torchvision.tgz_md5):
                raise DataError(
                    f"{archive} is not {self.title}'s archive as published (MD5 differs). Replace or remove it"
                )
            unpack(archive, folder, [f"{self.base}/{name}" for name, _ in self.files()])

        return fill

    def _help(self, location: DataLocation) -> str:
        names = [name for name, _ in self.files()]
        return help_text(location, files=names, addresses=self.addresses(), archive=self.archive, **self._place)
