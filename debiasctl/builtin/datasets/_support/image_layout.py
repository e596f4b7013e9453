"""Deriving classes and splits from the names of image files."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from debiasctl.api import DataError
from debiasctl.builtin.datasets._support.folder_hints import FixableUsageError
from debiasctl.builtin.datasets._support.image_files import SPLIT_FOLDERS, ImageFile
from debiasctl.builtin.datasets._support.image_labels import Labels, labels_by_folder, stored_in_shards
from debiasctl.builtin.datasets._support.image_table import ImageFiles

Classes = Literal["auto", "folders", "none"]
SplitRule = Literal["within-classes", "by-name"]

# the names of top-level folders that are splits
_SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_NAMES = {name: split for split, names in _SPLITS.items() for name in names}
_SHOWN = 4  # folders named in a message


@dataclass(frozen=True)
class Layout:
    """The files of each split, ordered by name, and the class names, which are empty if there are no classes.

    `heldout_folder` is the folder that is held out, and `unused` one that is not read; both are empty if there is none.
    """

    classes: tuple[str, ...]
    train: ImageFiles
    heldout: ImageFiles
    numbers: npt.NDArray[np.int64] | None = None  # [N], of the classes of all files in the table
    heldout_folder: str = ""
    unused: str = ""

    def labels(self, files: ImageFiles) -> list[int] | None:
        """The index in `classes` of each file's class; None without classes."""
        if self.numbers is None:
            return None
        labels: list[int] = self.numbers[files.rows].tolist()
        return labels

    def class_counts(self) -> tuple[int, ...]:
        """The number of training images of each class."""
        if self.numbers is None:
            return ()
        return tuple(np.bincount(self.numbers[self.train.rows], minlength=len(self.classes)).tolist())


def read_layout(
    files: Sequence[ImageFile],
    root: Path,
    *,
    heldout_fraction: float,
    classes: Classes = "auto",
    split: SplitRule = "within-classes",
    labels: Labels | None = None,
) -> Layout:
    """Read classes from sub-folders, and splits from top-level train/, val/ and test/ or else by a hash of each name.

    `labels`, if given, are the classes of all files instead of the folders. Without split folders a file is held out if
    the SHA-256 of its name, as a fraction, is below `heldout_fraction`, so that adding files moves no other; at least
    one image is held out. By the rule `within-classes`, the file of each class whose fraction is highest is trained on
    in any case, so that no class is held out as a whole; `by-name` (the rule of specs before version 3) keeps one image
    of the whole set for training.

    Raises:
        DataError: if the layout is ambiguous, or there are too few images.
        UsageError: if the sub-folders may be storage instead of classes, and `classes` does not say which they are.
    """
    table = files if isinstance(files, ImageFiles) else ImageFiles.of(files)
    tops = _split_folders(table, root, names=SPLIT_FOLDERS if split == "by-name" else tuple(_NAMES))
    depth = 1 if tops else 0
    train = tops.pop("train", ("", table))[1]
    heldout_folder, heldout = tops.pop("val", None) or tops.pop("test", None) or ("", None)
    if labels is None and classes != "none":
        labels = labels_by_folder(train, root, depth=depth)
        beside = None if heldout is None else labels_by_folder(heldout, root, depth=depth)
        if labels is not None and classes == "auto" and _are_storage(labels, root):
            labels = beside = None
        labels = _of_whole(table, train, labels, heldout, beside, root / heldout_folder)
    if heldout is None:
        train, heldout = _divide(train, root, fraction=heldout_fraction, labels=labels, split=split)
    elif labels is not None:
        _check_classes(labels, train, heldout, root / heldout_folder)
    unused = next((folder for folder, _ in tops.values()), "")
    if labels is None:
        return Layout((), train, heldout, None, heldout_folder, unused)
    return Layout(labels.classes, train, heldout, labels.numbers, heldout_folder, unused)


def _split_folders(table: ImageFiles, root: Path, *, names: Sequence[str]) -> dict[str, tuple[str, ImageFiles]]:
    """The top-level folders that are splits, with their files, by split; capitalised only if there is nothing else."""
    rows: dict[str, array[int]] = {}
    other = ""  # the first image outside the split folders
    for row, file in enumerate(table):
        top, slash, _ = file.name.partition("/")
        if slash and (top in names or top.casefold() in names):
            rows.setdefault(top, array("L")).append(row)
        elif not other:
            other = file.name
    written = [top for top in rows if top in names]
    capitalised = [top for top in rows if top not in names]
    if capitalised and (names == SPLIT_FOLDERS or other or "train" not in {_NAMES[top.casefold()] for top in rows}):
        other = other or next(table[rows[top][0]].name for top in capitalised)
        rows = {top: rows[top] for top in written}
    found = {_NAMES[top.casefold()]: (top, table.choose(np.array(at))) for top, at in rows.items()}
    if len(found) < len(rows):
        raise DataError(f"{root} has {'/ and '.join(sorted(rows))}/, of which two name one split. Keep one of them")
    if found and "train" not in found:
        top = next(iter(rows))
        raise DataError(f"{root} has {top}/ but no train/. Add a train/ folder, or rename {top}/")
    if found and other:
        raise DataError(
            f"{root} has {found['train'][0]}/, but also images outside train/, val/ and test/, such as {other}. "
            f"Move them into one of the three, or rename {found['train'][0]}/"
        )
    return found


def _are_storage(labels: Labels, root: Path) -> bool:
    """Whether the folders that the labels were read from are storage: one folder that looks like it is.

    Raises:
        UsageError: if several folders look like storage.
    """
    counts = np.bincount(labels.numbers, minlength=len(labels.classes)).tolist()
    found = stored_in_shards(labels.classes, counts)
    if not found or len(labels.classes) == 1:
        return found
    named = ", ".join(f"{name}/ ({count:,})" for name, count in zip(labels.classes[:_SHOWN], counts, strict=False))
    more = f", ... {len(labels.classes)} in all" if len(labels.classes) > _SHOWN else ""
    raise FixableUsageError(
        f"{root}: the sub-folders {named}{more} may store images in portions, or be classes. Say which: classes=none "
        "(train without classes) or classes=folders (each folder is a class)",
        {"classes": "none"},
        {"classes": "folders"},
    )


def _of_whole(
    table: ImageFiles,
    train: ImageFiles,
    labels: Labels | None,
    heldout: ImageFiles | None,
    beside: Labels | None,
    folder: Path,
) -> Labels | None:
    """The labels of all files of the table, from those of the splits.

    Raises:
        DataError: if the held-out images have a class that the training images lack, or have none.
    """
    if heldout is not None:
        unknown = sorted(set(beside.classes if beside else ()) - set(labels.classes if labels else ()))
        if unknown:
            raise DataError(
                f"{folder} has the class {unknown[0]}, but train/ does not. Both need the same class folders"
            )
        if labels is not None and beside is None:
            raise DataError(f"{folder} has no class folders, but train/ has some. Both need the same class folders")
    if labels is None:
        return None
    numbers = np.full(table.num_whole, -1, dtype=np.int64)
    numbers[train.rows] = labels.numbers
    if heldout is not None and beside is not None:
        places = np.array([labels.classes.index(name) for name in beside.classes], dtype=np.int64)
        numbers[heldout.rows] = places[beside.numbers]
    return Labels(labels.classes, numbers)


def _check_classes(labels: Labels, train: ImageFiles, heldout: ImageFiles, folder: Path) -> None:
    """Refuse held-out classes without a training image."""
    trained = np.bincount(labels.numbers[train.rows], minlength=len(labels.classes))
    for number in np.unique(labels.numbers[heldout.rows]).tolist():
        if not trained[number]:
            raise DataError(f"{folder} has the class {labels.classes[number]}, but train/ has no image of it. Add some")


def _divide(
    files: ImageFiles, root: Path, *, fraction: float, labels: Labels | None, split: SplitRule
) -> tuple[ImageFiles, ImageFiles]:
    if len(files) < 2:
        raise DataError(f"{root} holds only one image. At least two are needed: one to train on and one to hold out")
    places = np.fromiter((place_of(file.name) for file in files), dtype=np.float64, count=len(files))
    if labels is None or split == "by-name":
        classes = np.zeros(len(files), dtype=np.int64)
    else:
        classes = labels.numbers[files.rows]
    held = held_out(places, classes, fraction=fraction)
    if held is None:
        raise DataError(
            f"{root} holds one image of each class, so none can be held out without losing a class. Add images, or "
            "train without classes (classes=none)"
        )
    return files.choose(~held), files.choose(held)


def held_out(
    places: npt.NDArray[np.float64], classes: npt.NDArray[np.int64], *, fraction: float
) -> npt.NDArray[np.bool_] | None:
    """Which images are held out: those placed below `fraction`, but at least one, and no class as a whole.

    None if there is only one image of each class.
    """
    free = np.ones(len(places), dtype=np.bool_)
    order = np.lexsort((places, classes))
    free[order[np.append(np.diff(classes[order]) > 0, True)]] = False  # the highest place of each class is trained on
    if not free.any():
        return None
    below: npt.NDArray[np.bool_] = (places < fraction) | (places == places[free].min())
    return free & below


def place_of(name: str) -> float:
    """A number in [0, 1) that depends only on the name."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:6], "big") / 2**48
