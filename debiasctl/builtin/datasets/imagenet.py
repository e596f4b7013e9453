"""ImageNet (ILSVRC 2012)."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from debiasctl.api import DataError, DataLocation
from debiasctl.api.files import open_regular
from debiasctl.builtin.datasets._support.file_sets import FileSet, FileSetOptions, Place
from debiasctl.builtin.datasets._support.image_files import FolderSource, ImageSource
from debiasctl.builtin.datasets._support.image_table import ImageFile, ImageFiles

_WNID = re.compile(r"n\d{8}")
_UNPACK = "from torchvision.datasets import ImageNet; ImageNet('DIR', 'train'); ImageNet('DIR', 'val')"


class ImageNet(FileSet):
    """1,281,167 photographs in 1,000 classes (ILSVRC 2012, arXiv 1409.0575); the 50,000 validation images are held out.

    Classes are named by their WordNet numbers, and the middle squares are used, of any size. The files are read from
    the data folder (DEBIASCTL_DATA) in torchvision's layout: train/n01440764/*.JPEG and val/n01440764/*.JPEG. They
    cannot be downloaded without an account at image-net.org. Subsets in the same layout are read too.
    """

    class Options(FileSetOptions):
        """The options of imagenet."""

    options: Options

    title, name, base = "ImageNet", "imagenet", ""
    markers = ("train",)
    needed = ("train/WNID/*.JPEG", "val/WNID/*.JPEG")

    def published(self) -> None:
        """Nothing can be downloaded."""

    def source(self, folder: Path) -> ImageSource:
        """Both folders of classes."""
        return _TwoFolders(folder)

    def places(self, folder: Path, source: ImageSource) -> tuple[tuple[str, ...], Mapping[str, Place]]:
        """Read splits and classes from the folders."""
        found: dict[str, tuple[bool, str]] = {}
        for file in source.files:
            part, _, rest = file.name.partition("/")
            wnid, slash, _ = rest.partition("/")
            if not slash or not _WNID.fullmatch(wnid):
                raise DataError(
                    f"{folder}: {file.name} lies in no folder of a class, such as {part}/n01440764/. Torchvision "
                    f"arranges the images of the published archives so: {_UNPACK}"
                )
            found[file.name] = (part == "train", wnid)
        classes = tuple(sorted({wnid for is_train, wnid in found.values() if is_train}))
        numbers = {wnid: number for number, wnid in enumerate(classes)}
        unknown = sorted({wnid for _, wnid in found.values()} - set(classes))
        if unknown:
            raise DataError(f"{folder} has images of {unknown[0]} in val/, but none in train/. Add them")
        return classes, {name: (is_train, numbers[wnid]) for name, (is_train, wnid) in found.items()}

    def addresses(self) -> Sequence[str]:
        """Where the archives are published."""
        return ["https://image-net.org/download.php (ILSVRC2012_img_train.tar, _img_val.tar and _devkit_t12.tar.gz)"]

    def _help(self, location: DataLocation) -> str:
        return f"{super()._help(location)}\nTorchvision unpacks the published archives so, in the folder DIR: {_UNPACK}"


class _TwoFolders:
    """The images in train/ and val/ of a folder, whatever else lies there."""

    def __init__(self, path: Path) -> None:
        missing = [name for name in ("train", "val") if not (path / name).is_dir()]
        if missing:
            raise DataError(f"{path} lacks {'/ and '.join(missing)}/ of ImageNet. Add what is missing")
        self.path = path
        parts = {name: FolderSource(path / name) for name in ("train", "val")}
        named = ((f"{part}/{one.name}", one.stamp) for part, found in parts.items() for one in found.files)
        self.files = ImageFiles.of(ImageFile(name, stamp) for name, stamp in named)
        self.passed_over: Counter[str] = sum((found.passed_over for found in parts.values()), Counter[str]())
        self.unreadable = [(f"{part}/{name}", why) for part, found in parts.items() for name, why in found.unreadable]
        self.labels_stamp: tuple[int, int] | None = None

    def labels_file(self) -> tuple[bytes, str]:
        """There is none."""
        raise NotImplementedError

    def open(self, name: str) -> IO[bytes]:
        """A file, to be read from its start."""
        return open_regular(self.path / name)
