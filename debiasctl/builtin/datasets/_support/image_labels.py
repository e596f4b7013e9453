"""The class of each image file: from dataset.json, a CSV or JSON file, or the folder that it lies in."""

import csv
import io
import os
import posixpath
import re
import unicodedata
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from debiasctl.api import DataError
from debiasctl.api.files import one_line, parse_json, quoted, read_bytes
from debiasctl.builtin.datasets._support.image_files import MOST_LABEL_BYTES, ImageSource, plain_name
from debiasctl.builtin.datasets._support.image_table import ImageFiles

_FORM = 'dataset.json should be {"labels": [["00000/img00000000.png", 3], ...]}, or {"labels": null} without classes'
_CSV_FORM = "Give a line for each image: its name below the folder, and its class, as in cat/001.png,cat"
_NAME_WORDS = ("file", "file_name", "filename", "image", "image_name", "image_id", "name", "path", "filepath", "id")
_LABEL_WORDS = ("label", "class", "class_name", "category", "target", "labels")
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBERED = re.compile(r"(?P<prefix>.*?)(?P<number>\d+)")
_CLASS_WORDS = ("class", "cls", "label", "category", "cat", "id")  # before a number, they name a class
_HASHED = re.compile(r"[0-9a-f]{2,3}")
_HASHED_FOLDERS = 16  # at least, where their names are the beginnings of hashes
_PADDED = 5  # digits: 00000, as StyleGAN's and EDM's tools name their folders


@dataclass(frozen=True)
class Labels:
    """The classes of all files of a table: their names, and the number of each file's class, int64 [N].

    `strays` counts the names that are given a class and are no image.
    """

    classes: tuple[str, ...]
    numbers: npt.NDArray[np.int64]
    strays: int = 0


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
    stated = _stated(content, where)
    return None if stated is None else _labelled(source, stated, prefix, where)


def labels_by_table(source: ImageSource, path: Path) -> Labels | None:
    """Read the classes that a CSV or a JSON file states for `source.files`; None if it says that there are none.

    A JSON file has the form of dataset.json, or is the object or list in it. A CSV has a line for each image: its name
    below the root, or that without the ending, and its class; a first line names the columns if it names no image.

    Raises:
        DataError: if it cannot be read, or some images have no label in it.
    """
    try:
        content = read_bytes(path, limit=MOST_LABEL_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"labels={path}: there is no such file. Give a .csv or a .json of names and classes") from error
    except (OSError, ValueError) as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise DataError(f"{path} cannot be read ({reason}). Make it readable") from error
    if path.suffix.lower() == ".json":
        stated = _stated(content, str(path), bare=True)
        return None if stated is None else _labelled(source, stated, "", str(path))
    return _labelled(source, _csv_labels(source, content, str(path)), "", str(path))


def moved_labels(labels: str | None, before: Path, after: Path) -> dict[str, str]:
    """The option `labels` once the images have moved: the file that lies to them as it did, if it is not in its place.

    Empty where it stays as it is.
    """
    if labels is None or Path(labels).is_file():
        return {}
    moved = os.path.normpath(after / os.path.relpath(labels, before))
    return {"labels": moved} if os.path.isfile(moved) else {}


def _stated(content: bytes, where: str, *, bare: bool = False) -> dict[str, Any] | None:
    """The labels that a JSON text states, by name; None if it says that there are none."""
    try:
        parsed = parse_json(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} cannot be read as JSON ({one_line(error)}). {_FORM}") from error
    if isinstance(parsed, dict) and "labels" in parsed:
        stated = parsed.pop("labels")
    elif bare and isinstance(parsed, dict | list):
        stated = parsed
    else:
        raise DataError(f"{where} has no 'labels'. {_FORM}; to read classes from sub-folders: classes=folders")
    if stated is None:
        return None
    by_name: dict[str, Any] = {}
    for item in stated.items() if isinstance(stated, dict) else stated if isinstance(stated, list) else [None]:
        if not (isinstance(item, Sequence) and len(item) == 2 and isinstance(item[0], str)):
            raise DataError(f"{where}: {item!r:.60} is not a file's name with its label. {_FORM}")
        _state(by_name, item[0], item[1], where)
    return by_name


def _state(by_name: dict[str, Any], name: str, label: Any, where: str) -> None:
    """Add the class of an image.

    Raises:
        DataError: if it has another already.
    """
    first = by_name.setdefault(_key(name), label)
    if first != label:
        raise DataError(f"{where} gives {name!r:.60} two classes, {first!r:.30} and {label!r:.30}. Keep one")


def _key(name: str) -> str:
    """What tells a file from others, however a table writes its name: macOS has letters and accents apart."""
    return unicodedata.normalize("NFC", plain_name(name.replace("\\", "/")))


def _csv_labels(source: ImageSource, content: bytes, where: str) -> dict[str, Any]:
    """The labels in the lines of a CSV, by name; whole numbers if all of them are."""
    try:
        text = content.decode("utf-8-sig")
        first_line = next((line for line in text.splitlines() if line.strip()), "")
        delimiter = next((mark for mark in ",;\t" if mark in first_line), ",")  # spreadsheets write all of them
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where} is not CSV text in UTF-8 ({one_line(error)}). {_CSV_FORM}") from error
    names = {_key(name) for file in source.files for name in (file.name, posixpath.splitext(file.name)[0])}
    columns, first = (0, 1), 1
    if rows and not names & {_key(cell.strip()) for cell in rows[0]}:
        columns, first = _columns(rows.pop(0), where), 2
    stated: dict[str, Any] = {}
    for number, row in enumerate(rows, start=first):
        if len(row) <= max(columns) or not row[columns[1]].strip():
            raise DataError(f"{where}: row {number} has no class: {','.join(row)!r:.60}. {_CSV_FORM}")
        name, label = (row[column].strip() for column in columns)
        _state(stated, name, label, where)
    if all(map(_INTEGER.fullmatch, stated.values())):
        stated = {name: int(label) for name, label in stated.items()}
    return stated


def _columns(header: Sequence[str], where: str) -> tuple[int, int]:
    """The columns of names and classes, by the words of a header; of two columns, the first has the names."""
    words = [cell.strip().casefold() for cell in header]
    name, label = (
        next((words.index(word) for word in known if word in words), None) for known in (_NAME_WORDS, _LABEL_WORDS)
    )
    if name is not None and label is not None:
        return name, label
    if len(words) == 2:
        other = name if name is not None else 0 if label is None else 1 - label
        return other, 1 - other
    raise DataError(
        f"{where} has the columns {', '.join(map(str, header))!r:.80}, none of which is called "
        f"{_NAME_WORDS[0] if name is None else _LABEL_WORDS[0]}. {_CSV_FORM}"
    )


def _labelled(source: ImageSource, by_name: Mapping[str, Any], prefix: str, where: str) -> Labels:
    classes: dict[Any, int] = {}
    of_files = array("l")
    num_missing, missing = 0, ""
    for file in source.files:
        name = _key(prefix + file.name)
        label = by_name.get(name)
        if label is None and not prefix:
            label = by_name.get(posixpath.splitext(name)[0])  # tables often leave out the ending
        if label is None:
            num_missing, missing = num_missing + 1, missing or file.name
            continue
        of_files.append(classes.setdefault(_class_of(label, f"{where}: {file.name}"), len(classes)))
    if num_missing:
        images = {_key(prefix + file.name) for file in source.files}
        images |= {posixpath.splitext(name)[0] for name in images}
        stray = next((name for name in by_name if name not in images), None)
        others = "" if stray is None else f" It has one for {quoted(stray)}, which is no image below the folder."
        raise DataError(
            f"{where} has no label for {num_missing:,} of {len(source.files):,} images, such as {missing}.{others} "
            "Give all of them labels, or train without classes (classes=none)"
        )
    if len({type(one) for one in classes}) > 1:
        raise DataError(f"{where} mixes numbers and texts as labels. Use one of them")
    labels = _sorted(classes, np.frombuffer(of_files, dtype=f"i{of_files.itemsize}"), source.path)
    return replace(labels, strays=max(0, len(by_name) - len(source.files)))


def _class_of(label: Any, where: str) -> int | str:
    if isinstance(label, list):
        if label and all(isinstance(one, int | float) for one in label) and sum(label) == max(label) == 1:
            return label.index(1)
        raise DataError(f"{where} has the label {label!r:.60}, which is no class: only one-hot vectors are read")
    if isinstance(label, float) and label.is_integer():
        return int(label)
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    if isinstance(label, str) and label.strip():
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
