"""From the names of image files to classes and splits."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from debiasctl.datasets.image_files import SPLIT_FOLDERS, ImageFile
from debiasctl.errors import DataError


@dataclass(frozen=True)
class Layout:
    """Files of each split, in the order of their names, and the class names, none where images lie in one folder."""

    classes: tuple[str, ...]
    train: tuple[ImageFile, ...]
    heldout: tuple[ImageFile, ...]
    depth: int  # folders above the class folder: 1 below split folders, else 0

    def labels(self, files: Sequence[ImageFile]) -> list[int] | None:
        """Index in `classes` of each file's class; None without classes."""
        if not self.classes:
            return None
        numbers = {name: number for number, name in enumerate(self.classes)}
        return [numbers[file.name.split("/")[self.depth]] for file in files]


def read_layout(files: Sequence[ImageFile], root: Path, *, heldout_fraction: float) -> Layout:
    """Classes from sub-folders; splits from top-level train/, val/ and test/, or else by a hash of each name.

    Without split folders a file is held out when the SHA-256 of its name, as a fraction, is below `heldout_fraction`,
    so that adding files moves no other file; at least one image is on each side.

    Raises:
        DataError: the layout can be read in two ways, or there are too few images.
    """
    tops = defaultdict(list)
    for file in files:
        top, slash, _ = file.name.partition("/")
        tops[top if slash else ""].append(file)
    split_tops = [name for name in SPLIT_FOLDERS if name in tops]
    if not split_tops:
        train, heldout = _divide(files, root, fraction=heldout_fraction)
        return Layout(_classes(files, root, depth=0), train, heldout, 0)
    if "train" not in tops:
        raise DataError(f"{root} has {split_tops[0]}/ and no train/. Add a train/ folder, or rename {split_tops[0]}/")
    others = sorted(set(tops) - set(SPLIT_FOLDERS))
    if others:
        raise DataError(
            f"{root} has train/ and also images outside train/, val/ and test/, such as {tops[others[0]][0].name}. "
            "Move them into one of the three, or rename train/"
        )
    classes = _classes(tops["train"], root, depth=1)
    heldout_top = next((name for name in ("val", "test") if name in tops), None)
    if heldout_top is None:
        train, heldout = _divide(tops["train"], root, fraction=heldout_fraction)
    else:
        train, heldout = tuple(tops["train"]), tuple(tops[heldout_top])
        _check_heldout_classes(_classes(heldout, root, depth=1), classes, root / heldout_top)
    return Layout(classes, train, heldout, 1)


def _classes(files: Sequence[ImageFile], root: Path, *, depth: int) -> tuple[str, ...]:
    directly = [file.name for file in files if file.name.count("/") == depth]
    in_folders = [file.name for file in files if file.name.count("/") > depth]
    if directly and in_folders:
        raise DataError(
            f"{root} holds images both directly ({directly[0]}) and in sub-folders ({in_folders[0]}). "
            "Move all of them into sub-folders, one for each class, or none"
        )
    return tuple(sorted({name.split("/")[depth] for name in in_folders}))


def _check_heldout_classes(heldout: Sequence[str], train: Sequence[str], folder: Path) -> None:
    unknown = sorted(set(heldout) - set(train))
    if unknown:
        raise DataError(f"{folder} has the class {unknown[0]}, which train/ has not. Both need the same class folders")
    if bool(heldout) != bool(train):
        raise DataError(f"{folder} has no class folders and train/ has some. Both need the same class folders")


def _divide(
    files: Sequence[ImageFile], root: Path, *, fraction: float
) -> tuple[tuple[ImageFile, ...], tuple[ImageFile, ...]]:
    if len(files) < 2:
        raise DataError(f"{root} holds one image alone. At least two are needed: one to train on and one to hold out")
    places = {file.name: _place(file.name) for file in files}
    ranked = sorted(places.values())
    bound = min(max(fraction, ranked[1]), ranked[-1])  # one image at least is below, and one is not
    train = tuple(file for file in files if places[file.name] >= bound)
    heldout = tuple(file for file in files if places[file.name] < bound)
    return train, heldout


def _place(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:6], "big") / 2**48
