"""Deriving classes and splits from the names of image files."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from debiasctl.api import DataError
from debiasctl.builtin.datasets._support.image_files import SPLIT_FOLDERS, ImageFile
from debiasctl.builtin.datasets._support.image_table import ImageFiles


@dataclass(frozen=True)
class Layout:
    """The files of each split, ordered by name, and the class names, which are empty if there are no sub-folders."""

    classes: tuple[str, ...]
    train: Sequence[ImageFile]
    heldout: Sequence[ImageFile]
    depth: int  # folders above the class folder: 1 below split folders, else 0

    def labels(self, files: Sequence[ImageFile]) -> list[int] | None:
        """The index in `classes` of each file's class; None without classes."""
        if not self.classes:
            return None
        numbers = {name: number for number, name in enumerate(self.classes)}
        return [numbers[file.name.split("/")[self.depth]] for file in files]


def read_layout(files: Sequence[ImageFile], root: Path, *, heldout_fraction: float) -> Layout:
    """Read classes from sub-folders, and splits from top-level train/, val/ and test/ or else by a hash of each name.

    Without split folders a file is held out if the SHA-256 of its name, as a fraction, is below `heldout_fraction`, so
    that adding files moves no other file; each split has at least one image.

    Raises:
        DataError: if the layout is ambiguous, or there are too few images.
    """
    table = files if isinstance(files, ImageFiles) else ImageFiles.of(files)
    rows = {name: array("L") for name in SPLIT_FOLDERS}
    other: str | None = None  # the first image outside the split folders
    for row, file in enumerate(table):
        top, slash, _ = file.name.partition("/")
        if slash and top in rows:
            rows[top].append(row)
        elif other is None:
            other = file.name
    tops = {name: table.choose(np.array(rows[name])) for name in SPLIT_FOLDERS if rows[name]}
    if not tops:
        train, heldout = _divide(table, root, fraction=heldout_fraction)
        return Layout(_classes(table, root, depth=0), train, heldout, 0)
    if "train" not in tops:
        top = next(iter(tops))
        raise DataError(f"{root} has {top}/ but no train/. Add a train/ folder, or rename {top}/")
    if other is not None:
        raise DataError(
            f"{root} has train/, but also images outside train/, val/ and test/, such as {other}. "
            "Move them into one of the three, or rename train/"
        )
    classes = _classes(tops["train"], root, depth=1)
    heldout_top = next((name for name in ("val", "test") if name in tops), None)
    if heldout_top is None:
        train, heldout = _divide(tops["train"], root, fraction=heldout_fraction)
    else:
        train, heldout = tops["train"], tops[heldout_top]
        _check_heldout_classes(_classes(heldout, root, depth=1), classes, root / heldout_top)
    return Layout(classes, train, heldout, 1)


def _classes(files: Sequence[ImageFile], root: Path, *, depth: int) -> tuple[str, ...]:
    directly = next((file.name for file in files if file.name.count("/") == depth), None)
    in_folder = next((file.name for file in files if file.name.count("/") > depth), None)
    if directly and in_folder:
        raise DataError(
            f"{root} holds images both directly ({directly}) and in sub-folders ({in_folder}). "
            "Move all of them into sub-folders, one for each class, or none"
        )
    return tuple(sorted({file.name.split("/")[depth] for file in files})) if in_folder else ()


def _check_heldout_classes(heldout: Sequence[str], train: Sequence[str], folder: Path) -> None:
    unknown = sorted(set(heldout) - set(train))
    if unknown:
        raise DataError(f"{folder} has the class {unknown[0]}, but train/ does not. Both need the same class folders")
    if bool(heldout) != bool(train):
        raise DataError(f"{folder} has no class folders, but train/ has some. Both need the same class folders")


def _divide(files: ImageFiles, root: Path, *, fraction: float) -> tuple[ImageFiles, ImageFiles]:
    if len(files) < 2:
        raise DataError(f"{root} holds only one image. At least two are needed: one to train on and one to hold out")
    places = np.fromiter((_place(file.name) for file in files), dtype=np.float64, count=len(files))
    # at least one image is below the bound, and at least one is not
    bound = min(max(fraction, np.partition(places, 1)[1]), places.max())
    return files.choose(places >= bound), files.choose(places < bound)


def _place(name: str) -> float:
    """A number in [0, 1) that depends only on the name."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:6], "big") / 2**48
