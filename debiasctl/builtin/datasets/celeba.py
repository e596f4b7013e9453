"""CelebA: faces."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from debiasctl.api import DataError, UsageError
from debiasctl.api.files import quoted, read_text
from debiasctl.builtin.datasets._support.file_sets import FileSet, FileSetOptions, Place, read_list
from debiasctl.builtin.datasets._support.image_files import FolderSource, ImageSource, ZipSource

_IMAGES = "img_align_celeba"
_PARTITION, _ATTRIBUTES = "list_eval_partition.txt", "list_attr_celeba.txt"
_LIST_BYTES = 2**26
_TRAIN, _VAL, _TEST = "0", "1", "2"  # in the partition


class CelebA(FileSet):
    """202,599 photographs of celebrities' faces, 178x218 pixels (arXiv 1411.7766): 162,770 to train on.

    The 19,962 official test images are held out, and the middle squares are used, of any size. There are no classes
    unless `attribute` names one of the 40 attributes. The files are read from the data folder (DEBIASCTL_DATA) or the
    cache in torchvision's layout (celeba/), with the images in img_align_celeba/ or img_align_celeba.zip, or else
    downloaded into the cache.
    """

    class Options(FileSetOptions):
        """The options of celeba."""

        attribute: str | None = Field(
            None,
            min_length=1,
            description="the attribute whose absence and presence are the two classes: Smiling, Male, ...",
        )
        train_on: Literal["train", "train+val"] = Field("train", description="train+val: the validation images too")

    options: Options

    title, name, base = "CelebA", "celeba", "celeba"
    torchvision_name = "CelebA"
    markers = (_PARTITION, _IMAGES, f"{_IMAGES}.zip")
    needed = (f"{_IMAGES}.zip (or its folder)", _PARTITION, f"{_ATTRIBUTES} (for attribute=...)")

    def published(self) -> tuple[int, int, tuple[str, ...]]:
        """The published facts."""
        more = 19_867 if self.options.train_on == "train+val" else 0
        return 162_770 + more, 19_962, self._classes

    def source(self, folder: Path) -> ImageSource:
        """The aligned images, unpacked or packed."""
        if (folder / _IMAGES).is_dir():
            return FolderSource(folder / _IMAGES)
        if (folder / f"{_IMAGES}.zip").is_file():
            return ZipSource(folder / f"{_IMAGES}.zip")
        raise DataError(f"{folder} lacks {_IMAGES}/ and {_IMAGES}.zip of CelebA. Add one of them")

    def places(self, folder: Path, source: ImageSource) -> tuple[tuple[str, ...], Mapping[str, Place]]:
        """Read the official splits and, if asked for, the attribute."""
        parts: dict[str, str] = read_list(folder / _PARTITION, _partition, title=self.title)
        chosen = {_TRAIN: True, _TEST: False} | ({_VAL: True} if self.options.train_on == "train+val" else {})
        if self.options.attribute is None:
            return (), {name: (chosen[part], 0) for name, part in parts.items() if part in chosen}
        header, rows = read_list(folder / _ATTRIBUTES, _attributes, title=self.title)
        if self.options.attribute not in header:
            raise UsageError(f"CelebA has no attribute {quoted(self.options.attribute)}. Known: {', '.join(header)}")
        column = header.index(self.options.attribute)
        missing = next((name for name in parts if name not in rows), None)
        if missing is not None:
            raise DataError(f"{folder / _ATTRIBUTES} has no line for {missing}. Fetch it again")
        return self._classes, {
            name: (chosen[part], int(rows[name][column] == "1")) for name, part in parts.items() if part in chosen
        }

    def addresses(self) -> Sequence[str]:
        """Where the files are published."""
        return ["https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"]

    @property
    def _classes(self) -> tuple[str, ...]:
        attribute = self.options.attribute
        return () if attribute is None else (f"not {attribute}", attribute)


def _partition(path: Path) -> dict[str, str]:
    rows = [line.split() for line in read_text(path, limit=_LIST_BYTES).splitlines() if line.strip()]
    if not rows or any(len(row) != 2 or row[1] not in (_TRAIN, _VAL, _TEST) for row in rows):
        raise ValueError("a line is not a file and 0, 1 or 2")
    return dict(rows)


def _attributes(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """The names of the attributes, and each image's values; the first line is the number of images."""
    lines = [line.split() for line in read_text(path, limit=_LIST_BYTES).splitlines()]
    header, rows = lines[1], [line for line in lines[2:] if line]
    if any(len(row) != len(header) + 1 or not {*row[1:]} <= {"1", "-1"} for row in rows):
        raise ValueError("a line does not have a 1 or -1 for each attribute")
    return header, {row[0]: row[1:] for row in rows}
