"""The common base of MNIST and Fashion-MNIST: four idx files, read in place or downloaded by torchvision."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from debiasctl.api import ArraySplit, DataError, DataLocation, Dataset, DatasetInfo, LoadedDataset, hash_splits
from debiasctl.builtin.datasets._support.array_sets import SizeOptions
from debiasctl.builtin.datasets._support.downloads import cached_folder, fetch, not_found
from debiasctl.builtin.datasets._support.folder_settings import recommended_settings
from debiasctl.builtin.datasets._support.idx import read_idx, read_idx_shape
from debiasctl.builtin.datasets._support.resizing import brought_to

_SIZE = 28
_TRAIN, _HELDOUT = "train", "t10k"
_KINDS = ("images-idx3", "labels-idx1")


RECOMMENDED: dict[str, Any] = {
    "data": {"horizontal_flip": False},
    "model": {"backbone": {"name": "dit", "options": {"patch_size": 4}}, "prediction": "eps"},
    "diffusion": {"schedule": "linear"},
    "optimizer": {"lr": 5e-4, "warmup_steps": 200, "decay": "cosine", "weight_decay": 0.0, "clip_grad_norm": 1.0},
    "ema": {"decay": 0.999},
    "training": {"steps": 5000, "batch_size": 128, "checkpoint_every": 1000, "heldout_every": 500},
}


class IdxDataset(Dataset):
    """The base of data sets of 28x28 grey images in ten classes, stored in MNIST's format."""

    class Options(SizeOptions):
        """The options of sets in MNIST's format."""

    options: Options

    title: ClassVar[str]
    name: ClassVar[str]  # the data set's name in commands and in the cache
    torchvision_name: ClassVar[str]  # torchvision's folder of the files
    classes: ClassVar[tuple[str, ...]]
    # the files of MNIST, Fashion-MNIST and KMNIST have the same names, so their labels distinguish them
    first_labels: ClassVar[tuple[int, ...]]
    system_folders: ClassVar[tuple[Path, ...]] = ()

    def info(self, location: DataLocation) -> DatasetInfo:
        """Read the files' headers if there are files; otherwise return the published facts."""
        files = self._find(location)
        if files is None:
            return self._info(60_000, 10_000)
        counts = {part: read_idx_shape(files[part][1], ndim=1)[0] for part in (_TRAIN, _HELDOUT)}
        return self._info(counts[_TRAIN], counts[_HELDOUT])

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """At 28 pixels, settings for a run of minutes on a GPU, or at most an hour on a CPU."""
        size = self.options.image_size
        return RECOMMENDED if size in (None, _SIZE) else recommended_settings(size)

    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the four files in place, downloading them into the cache if they are not found."""
        files = self._find(location)
        if files is None:
            fetch(cached_folder(location, self.name), self._download, help_text=self._help(location))
            files = self._find(location)
        if files is None:
            raise DataError(self._help(location))
        train, heldout = (self._read_part(*files[part]) for part in (_TRAIN, _HELDOUT))
        assert train.targets is not None
        first = tuple(train.targets[: len(self.first_labels)].tolist())
        if first != self.first_labels:
            raise DataError(
                f"{files[_TRAIN][1]} is not {self.title}'s: its labels start with {first}, not {self.first_labels}. "
                f"Several data sets use these file names; point `data_dir` or DEBIASCTL_DATA at {self.title}'s"
            )
        info = self._info(len(train), len(heldout))
        described: dict[str, Any] = {"name": self.name, "classes": self.classes}
        if (info.image_size, info.channels) != (_SIZE, 1):
            described["shape"] = [info.channels, info.image_size, info.image_size]
        splits = [
            brought_to(part.array.numpy(), part.targets, image_size=info.image_size, channels=info.channels)
            for part in (train, heldout)
        ]
        return LoadedDataset(info, splits[0], splits[1], hash_splits(described, splits))

    def _info(self, num_train: int, num_heldout: int) -> DatasetInfo:
        size, channels = self.options.image_size or _SIZE, 3 if self.options.mode == "rgb" else 1
        return DatasetInfo(size, channels, self.classes, num_train, num_heldout)

    def _folders(self, location: DataLocation) -> list[Path]:
        root = location.data_dir
        given = []
        if root is not None:
            names = dict.fromkeys((self.torchvision_name, self.name))
            given = [root, root / "raw", *(root / name / sub for name in names for sub in ("", "raw"))]
        cached = cached_folder(location, self.name) / self.torchvision_name / "raw"
        return [*given, *self.system_folders, cached]

    def _find(self, location: DataLocation) -> dict[str, tuple[Path, Path]] | None:
        """Find (images file, labels file) of each part in the first folder that holds all four."""
        for folder in self._folders(location):
            found = {part: _part_files(folder, part) for part in (_TRAIN, _HELDOUT)}
            whole = {part: (files[0], files[1]) for part, files in found.items() if len(files) == 2}
            if len(whole) == 2:
                return whole
        return None

    def _read_part(self, images_file: Path, labels_file: Path) -> ArraySplit:
        images = torch.tensor(read_idx(images_file, ndim=3))
        labels = torch.tensor(read_idx(labels_file, ndim=1)).long()
        if images.shape[1:] != (_SIZE, _SIZE):
            raise DataError(f"{images_file} holds images of {tuple(images.shape[1:])} pixels; {self.title}'s are 28x28")
        if len(images) != len(labels) or not len(labels):
            raise DataError(f"{images_file} holds {len(images)} images, but {labels_file} {len(labels)} labels")
        if int(labels.max()) >= len(self.classes):
            raise DataError(f"{labels_file} holds label {int(labels.max())}; {self.title}'s are 0 to 9")
        return ArraySplit(images[:, None], labels)

    @abstractmethod
    def _download(self, folder: Path) -> None:
        """Let torchvision download the files into `folder`."""

    @abstractmethod
    def _addresses(self) -> Sequence[str]:
        """Where the files are published, from torchvision."""

    def _help(self, location: DataLocation) -> str:
        notes = []
        for folder in self._folders(location):
            names = [path.name for part in (_TRAIN, _HELDOUT) for path in _part_files(folder, part)]
            if names:
                notes.append(f"{folder} holds only {', '.join(names)}")
        if self.system_folders:
            notes.append(f"Debian and Ubuntu: apt install dataset-{self.name}")
        return not_found(
            self.title,
            files=[f"{part}-{kind}-ubyte.gz" for part in (_TRAIN, _HELDOUT) for kind in _KINDS],
            addresses=self._addresses(),
            searched=self._folders(location),
            example=f"{self.torchvision_name}/raw",
            notes=notes,
        )


def _part_files(folder: Path, part: str) -> list[Path]:
    """The images file and the labels file of a part, packed or not, if the folder holds them."""
    found = []
    for kind in _KINDS:
        either = (folder / f"{part}-{kind}-ubyte{suffix}" for suffix in ("", ".gz"))
        found += [path for path in either if path.is_file()][:1]
    return found
