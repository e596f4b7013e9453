"""The class of each image file: from dataset.json, or from the folder that it lies in."""

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debiasctl.api import DataError
from debiasctl.api.files import one_line, parse_json
from debiasctl.builtin.datasets._support.image_files import ImageSource
from debiasctl.builtin.datasets._support.image_table import ImageFiles

_FORM = 'dataset.json should be {"labels": [["00000/img00000000.png", 3], ...]}, or {"labels": null} without classes'
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)")
_CLASS_WORDS = ("class", "cls", "label", "category", "cat", "id")  # before a number, they name a class
_HASHED = re.compile(r"[0-9a-f]{2,3}")
_HASHED_FOLDERS = 16  # at least, where their names are the beginnings of hashes
_PADDED = 5  # digits: 00000, as StyleGAN's and EDM's tools name their folders


@dataclass(frozen=True)
class Labels:
    """The classes of all files of a table: their names, and the number of each file's class, int64 [N]."""

    classes: tuple[str, ...]
    numbers: npt.NDArray[np.int64]


def labels_by_folder(files: ImageFiles, root: Path, *, depth: int) -> Labels | None:
    """Number the folders at `depth` below the root by name; None if the files lie directly at that depth.

    Raises:
        DataError: if some files lie directly there and some in folders, or a folder's name is not UTF-8.
    """
    numbers: dict[str, int] = {}
    of_files = array("l")
    directly = in_folder = ""
    for file in files:
        parts = file.name.split("/", depth + 1)
        if len(parts) == depth + 1:
            directly = directly or file.name
        else:
            in_folder = in_folder or file.name
            of_files.append(numbers.setdefault(parts[depth], len(numbers)))
    if directly and in_folder:
        raise DataError(
            f"{root} holds images both directly ({directly}) and in sub-folders ({in_folder}). "
            "Move all of them into sub-folders, one for each class, or none; or train without classes (classes=none)"
        )
    return _sorted(numbers, np.frombuffer(of_files, dtype=f"i{of_files.itemsize}"), root) if in_folder else None


def labels_by_file(source: ImageSource) -> Labels | None:
    """Read the classes that dataset.json states for `source.files`; None if it says that there are none.

    Classes are integers, numbers written as floats, one-hot vectors, or texts, and are named by them.

    Raises:
        DataError: if it is not of that form, or some images have no label in it.
    """
    content, prefix = source.labels_file()
    where = f"{source.path}: dataset.json"
    try:
        parsed = parse_json(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} cannot be read as JSON ({one_line(error)}). {_FORM}") from error
    if not isinstance(parsed, dict) or "labels" not in parsed:
        raise DataError(f"{where} has no 'labels'. {_FORM}; to read classes from sub-folders: classes=folders")
    stated = parsed.pop("labels")
    if stated is None:
        return None
    by_name = {}
    for item in stated.items() if isinstance(stated, dict) else stated if isinstance(stated, list) else [None]:
        if not (isinstance(item, Sequence) and len(item) == 2 and isinstance(item[0], str)):
            raise DataError(f"{where}: {item!r:.60} is not a file's name with its label. {_FORM}")
        by_name[item[0].replace("\\", "/")] = item[1]
    return _labelled(source, by_name, prefix, where)


def _labelled(source: ImageSource, by_name: Mapping[str, Any], prefix: str, where: str) -> Labels:
    classes: dict[Any, int] = {}
    of_files = array("l")
    num_missing, missing = 0, ""
    for file in source.files:
        label = by_name.get(prefix + file.name)
        if label is None:
            num_missing, missing = num_missing + 1, missing or file.name
            continue
        of_files.append(classes.setdefault(_class_of(label, f"{where}: {file.name}"), len(classes)))
    if num_missing:
        raise DataError(
            f"{where} has no label for {num_missing:,} of {len(source.files):,} images, such as {missing}. "
            "Give all of them labels, or train without classes (classes=none)"
        )
    if len({type(one) for one in classes}) > 1:
        raise DataError(f"{where} mixes numbers and texts as labels. Use one of them")
    return _sorted(classes, np.frombuffer(of_files, dtype=f"i{of_files.itemsize}"), source.path)


def _class_of(label: Any, where: str) -> int | str:
    if isinstance(label, list):
        if label and all(isinstance(one, int | float) for one in label) and sum(label) == max(label) == 1:
            return label.index(1)
        raise DataError(f"{where} has the label {label!r:.60}, which is no class: only one-hot vectors are read")
    if isinstance(label, float) and label.is_integer():
        return int(label)
    if isinstance(label, int | str) and not isinstance(label, bool):
        return label
    raise DataError(f"{where} has the label {label!r:.60}, which is no class. Use whole numbers or texts")


def _sorted(numbers: Mapping[Any, int], of_files: npt.NDArray[Any], root: Path) -> Labels:
    """Number classes in the order of their values, instead of that of their first files."""
    ordered = sorted(numbers)
    for name in map(str, ordered):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"{root}: the class {name!r} has a name that is not UTF-8. Rename it") from error
    places = np.empty(max(len(ordered), 1), dtype=np.int64)
    for number, name in enumerate(ordered):
        places[numbers[name]] = number
    return Labels(tuple(map(str, ordered)), places[of_files])


def stored_in_shards(classes: Sequence[str], counts: Sequence[int]) -> bool:
    """Whether folders look like storage, not classes: their names differ in a number, and their sizes are equal.

    The last by number may hold fewer. Sixteen or more beginnings of hashes (0a, 1f, ...), and numbers of five digits or
    more, count as storage whatever the sizes; a number after a word such as `class` names a class.
    """
    if len(classes) >= _HASHED_FOLDERS and all(map(_HASHED.fullmatch, classes)) and not all(map(str.isdigit, classes)):
        return True
    matches = [_NUMBERED.fullmatch(name) for name in classes]
    if not classes or not all(matches):
        return False
    found = [(match["prefix"], match["number"]) for match in matches if match]
    if len({prefix for prefix, _ in found}) > 1 or found[0][0].strip("-_ .").lower() in _CLASS_WORDS:
        return False
    if len(found) == 1 or (not found[0][0] and min(len(number) for _, number in found) >= _PADDED):
        return True
    *others, last = [count for _, count in sorted(zip([int(number) for _, number in found], counts, strict=True))]
    return len(set(others)) == 1 and last <= others[0]
