"""CIFAR-10."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from debiasctl.api import ArraySplit, DataError, DataLocation, Dataset, DatasetInfo, LoadedDataset, hash_splits
from debiasctl.builtin.datasets._support.downloads import cached_folder, fetch, not_found
from debiasctl.builtin.datasets._support.image_files import holds_images

# The published setup of arXiv 2310.08442 on CIFAR-10.
RECOMMENDED: dict[str, Any] = {
    "data": {"horizontal_flip": True},
    "model": {
        "backbone": {"name": "unet", "options": {"channels": 128, "channel_mult": [1, 2, 2, 2]}},
        "prediction": "eps",
        "conditional": True,
        "learned_variance": True,
    },
    "diffusion": {"schedule": "linear"},
    "optimizer": {"lr": 2e-5, "warmup_steps": 0, "decay": "none", "weight_decay": 0.0, "clip_grad_norm": None},
    "ema": {"decay": 0.9999, "warmup": False},
    "training": {"steps": 500_000, "batch_size": 32, "checkpoint_every": 10_000, "heldout_every": 10_000},
}

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_BATCHES = "cifar-10-batches-py"
_ARCHIVE = "cifar-10-python.tar.gz"


class CIFAR10(Dataset):
    """60,000 colour photographs of 32x32 pixels in ten classes (Krizhevsky, 2009): 50,000 to train on, 10,000 held out.

    The files are read from the data folder (DEBIASCTL_DATA) or the cache in torchvision's layout (cifar-10-batches-py),
    or else unpacked from cifar-10-python.tar.gz or downloaded into the cache. Every file's MD5 is checked before it is
    read.
    """

    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the published facts, without reading anything."""
        return DatasetInfo(32, 3, _CLASSES, 50_000, 10_000, class_counts=(5_000,) * len(_CLASSES))

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """The published setup of arXiv 2310.08442."""
        return RECOMMENDED

    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the batches in place, unpacking or downloading them into the cache if they are not found."""
        folder = _find_batches(location)
        if folder is None:
            cached = cached_folder(location, "cifar10")
            archive = _find_archive(location)
            fetch(cached, _unpack(archive) if archive else _download, help_text=_help(location))
            folder = cached / _BATCHES
        _check(folder)
        train, heldout = _read(folder, train=True), _read(folder, train=False)
        content_hash = hash_splits({"name": "cifar10", "classes": _CLASSES}, [train, heldout])
        return LoadedDataset(DatasetInfo(32, 3, _CLASSES, len(train), len(heldout)), train, heldout, content_hash)


def _given_folders(location: DataLocation) -> list[Path]:
    root = location.data_dir
    return [] if root is None else [root, root / "cifar10", root / "CIFAR10"]


def _batch_folders(location: DataLocation) -> list[Path]:
    given = [folder / _BATCHES for folder in _given_folders(location)]
    return [*given, *_given_folders(location)[:1], cached_folder(location, "cifar10") / _BATCHES]


def _find_batches(location: DataLocation) -> Path | None:
    """The first folder that holds a file of the set; an incomplete set is reported, not skipped."""
    names = [name for name, _ in _checksums()]
    found = (folder for folder in _batch_folders(location) if any((folder / name).is_file() for name in names))
    return next(found, None)


def _find_archive(location: DataLocation) -> Path | None:
    archives = (folder / _ARCHIVE for folder in _given_folders(location))
    return next((archive for archive in archives if archive.is_file()), None)


def _checksums() -> list[tuple[str, str]]:
    """List (file name, MD5) of each file, from torchvision."""
    from torchvision.datasets import CIFAR10 as Source

    batches = [(name, md5) for name, md5 in [*Source.train_list, *Source.test_list]]
    return [*batches, (Source.meta["filename"], Source.meta["md5"])]


def _address() -> str:
    """Where the archive is published, from torchvision."""
    from torchvision.datasets import CIFAR10 as Source

    return str(Source.url)


def _check(folder: Path) -> None:
    from torchvision.datasets.utils import check_integrity

    missing = [name for name, _ in _checksums() if not (folder / name).is_file()]
    if missing:
        raise DataError(f"{folder} lacks {', '.join(missing)} of CIFAR-10. Add them, or remove the folder")
    damaged = [name for name, md5 in _checksums() if not check_integrity(str(folder / name), md5)]
    if damaged:
        raise DataError(
            f"{folder}: {', '.join(damaged)} {'is' if len(damaged) == 1 else 'are'} not as published (MD5 differs). "
            "Replace the damaged files, or remove the folder"
        )


def _read(folder: Path, *, train: bool) -> ArraySplit:
    from torchvision.datasets import CIFAR10 as Source

    class Batches(Source):  # type: ignore[misc]
        base_folder = folder.name

    source = Batches(str(folder.parent), train=train)
    return ArraySplit(torch.tensor(source.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(source.targets))


def _download(folder: Path) -> None:
    from torchvision.datasets import CIFAR10 as Source

    Source(str(folder), download=True)


def _unpack(archive: Path) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        from torchvision.datasets import CIFAR10 as Source
        from torchvision.datasets.utils import check_integrity, extract_archive

        if not check_integrity(str(archive), Source.tgz_md5):
            raise DataError(f"{archive} is not CIFAR-10's archive as published (MD5 differs). Replace or remove it")
        extract_archive(str(archive), str(folder))

    return fill


def _help(location: DataLocation) -> str:
    root = location.data_dir
    notes = []
    if root is not None and holds_images(root):
        notes.append(f"{root} holds image files. To train on those: debiasctl train {shlex.quote(str(root))}")
    return not_found(
        "CIFAR-10",
        files=[name for name, _ in _checksums()],
        addresses=[_address()],
        searched=_batch_folders(location),
        example=f"{_BATCHES} (or {_ARCHIVE} into DIR itself)",
        notes=notes,
    )
