"""Data sets of Hugging Face's library: finding them, and reading images and classes from their columns."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from debiasctl.api import DataError, UsageError
from debiasctl.api.files import one_line, open_regular, quoted
from debiasctl.builtin.datasets._support.byte_images import Rows, numbered
from debiasctl.builtin.datasets._support.extras import extra
from debiasctl.builtin.datasets._support.image_decoding import UnreadableImageError

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_FILES = {".parquet": "parquet", ".arrow": "arrow"}
_SAVED = ("dataset_dict.json", "state.json")  # what `save_to_disk` writes
_HELDOUT = ("validation", "valid", "val", "dev", "test")
_LABELS = ("label", "labels")  # columns that are classes, whatever their type

Table = Any  # a datasets.Dataset; the library is untyped, and is imported late


def tables(path: str, *, name: str | None, revision: str | None, split: str, heldout: str | None) -> dict[str, Table]:
    """The training split by its name, and the held-out one if there is one; a single one is called `row`.

    Raises:
        UsageError: if the library is missing, or there is no such set or split.
        DataError: if the set cannot be loaded.
    """
    found = _loaded(path, name=name, revision=revision)
    if not isinstance(found, Mapping):
        if split != "train" or heldout is not None:
            raise UsageError(f"{path} is one split without a name. Leave out split and heldout_split")
        return {"row": found}
    for wanted in (split, heldout):
        if wanted is not None and wanted not in found:
            raise UsageError(f"{path} has no split {quoted(wanted)}. It has: {', '.join(map(str, found))}")
    if heldout is None:
        heldout = next((one for one in _HELDOUT if one in found and one != split), None)
    elif heldout == split:
        raise UsageError(f"split and heldout_split are both {quoted(split)}. Held-out images are not trained on")
    return {name: found[name] for name in (split, heldout) if name is not None}


def _loaded(path: str, *, name: str | None, revision: str | None) -> Any:
    library = extra("datasets", name="hf", what="data set 'hf'")
    place = Path(path)
    try:
        if is_saved(place):
            _refuse(path, name=name, revision=revision)
            return library.load_from_disk(path, keep_in_memory=False)
        if place.is_file():
            _refuse(path, name=name, revision=revision)
            return library.load_dataset(_builder(place), data_files=path)
        if place.is_dir():
            _refuse(path, revision=revision)
            return library.load_dataset(path, name)
        if place.is_absolute() or not _HUB_NAME.fullmatch(path):
            raise UsageError(f"{path} does not exist. Give a folder, a .parquet, or the name of a set of the hub")
        return library.load_dataset(path, name, revision=revision)
    except UsageError:
        raise
    except Exception as error:
        raise _explained(path, error) from error


def is_saved(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return path.is_dir() and any((path / file).exists() for file in _SAVED)


def _refuse(path: str, **options: str | None) -> None:
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option}={value} has no effect with {path}. Leave it out")


def _builder(path: Path) -> str:
    builder = _FILES.get(path.suffix.lower())
    if builder is None:
        raise UsageError(f"{path} is no .parquet or .arrow. Give one, or a folder; data set 'folder' reads archives")
    return builder


def _explained(path: str, error: Exception) -> Exception:
    reason = one_line(error)
    if Path(path).exists():
        return DataError(f"{path} cannot be loaded by the library datasets: {type(error).__name__}: {reason:.300}")
    if isinstance(error, ConnectionError) or "offline" in reason.lower():
        return DataError(
            f"{path} is no folder here, and the Hugging Face hub cannot be reached ({reason:.200}). Check the network "
            "and HF_HUB_OFFLINE; or save the set where there is one (save_to_disk) and give the folder"
        )
    return UsageError(
        f"{path} is no folder here, and no set that the Hugging Face hub has for you ({type(error).__name__}: "
        f"{reason:.300}). Check the name; a gated or private set needs HF_TOKEN"
    )


class TableImages:
    """The images in a column of one or two tables, numbered through them; `ByteImages` for reading."""

    def __init__(self, splits: Mapping[str, Table], column: str, *, where: str) -> None:
        library = extra("datasets", name="hf", what="data set 'hf'")
        self.where = where
        as_bytes = library.Image(decode=False)
        self._tables = []
        for name, table in splits.items():
            _check_column(table, column, f"split {name} of {where}")
            is_image = isinstance(table.features[column], library.Image)
            self._tables.append((table.cast_column(column, as_bytes) if is_image else table).select_columns([column]))
        self._names = list(splits)
        self._column = column
        self._starts = np.cumsum([0, *(len(table) for table in splits.values())])
        self._open_path = library.utils.file_utils.xopen

    def openers(self, rows: Sequence[int]) -> Sequence[Callable[[], IO[bytes]]]:
        """A function for each image that opens it; the rows are fetched here, since a table is read by one thread."""
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        found: list[Callable[[], IO[bytes]]] = [io.BytesIO] * len(rows)
        for number, table in enumerate(self._tables):
            at = np.flatnonzero(numbers == number).tolist()
            if at:
                values = table[[rows[one] - int(self._starts[number]) for one in at]][self._column]
                for one, value in zip(at, values, strict=True):
                    found[one] = partial(self._open, value)
        return found

    def name(self, row: int) -> str:
        """The split and the row in it."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return f"{self._names[number]} {row - int(self._starts[number]):,}"

    def _open(self, value: Any) -> IO[bytes]:
        """Open an image, stored with the row or beside it.

        Raises:
            UnreadableImageError: if the row has none.
        """
        content, path = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, None)
        if content is not None:
            return io.BytesIO(content)
        if path is None:
            raise UnreadableImageError("the row holds no image")
        stream: IO[bytes] = self._open_path(path, "rb") if "://" in path else open_regular(path)
        return stream


def image_column(table: Table, stated: str | None, *, where: str) -> str:
    """The column of the images.

    Raises:
        UsageError: if it has to be stated, or holds something else.
    """
    library = extra("datasets", name="hf", what="data set 'hf'")
    features: Mapping[str, Any] = table.features
    found = [name for name, feature in features.items() if isinstance(feature, library.Image)]
    listed = ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
    if stated is None:
        if len(found) == 1:
            return found[0]
        said = "has several columns of images. Say which" if found else "has no column of images. Say which holds them"
        raise UsageError(f"{where} {said}: image=COLUMN. Its columns: {listed}")
    if stated not in features:
        raise UsageError(f"{where} has no column {quoted(stated)}. Its columns: {listed}")
    if stated not in found and getattr(features[stated], "dtype", "") not in ("binary", "large_binary"):
        raise UsageError(f"the column {stated} of {where} holds no images. Its columns: {listed}")
    return stated


def classes_of(splits: Mapping[str, Table], stated: str, *, where: str) -> tuple[tuple[str, ...], Rows | None]:
    """The names of the classes, and the class of each row of the splits; ((), None) if there are none.

    Raises:
        UsageError: if the column has to be stated, or does not exist.
        DataError: if a row has no class, or the splits have different ones.
    """
    library = extra("datasets", name="hf", what="data set 'hf'")
    (first, table), *others = splits.items()
    column = _label_column(table.features, stated, library, where=where)
    if column is None:
        return (), None
    feature = table.features[column]
    for name, other in others:
        _check_column(other, column, f"split {name} of {where}")
        if _names_of(feature) != _names_of(other.features[column]):
            raise DataError(
                f"{where}: the classes of column {column} are not the same in the splits {first} and {name}. Choose "
                "others (split, heldout_split), or label=none to train without"
            )
    values = np.concatenate([_column(one, column, where=where) for one in splits.values()])
    if isinstance(feature, library.ClassLabel):
        if (values < 0).any() or (values >= len(feature.names)).any():
            row = int(np.flatnonzero((values < 0) | (values >= len(feature.names)))[0])
            raise DataError(
                f"{where}: row {row:,} has the class {values[row]} in column {column}, which has {len(feature.names)}. "
                "Choose splits with classes (split, heldout_split), or label=none to train without"
            )
        return tuple(feature.names), values.astype(np.int64)
    is_text = values.dtype.kind == "O" and all(isinstance(value, str) for value in values)
    if values.dtype.kind not in "iubU" and not is_text:
        raise DataError(f"{where}: the column {column} holds {_kind(feature)}, which are no classes. Say label=none")
    texts = values.astype(np.str_)
    blank = np.flatnonzero(np.char.strip(texts) == "")
    if len(blank):
        raise DataError(f"{where}: row {int(blank[0]):,} has an empty class in column {column}. Say label=none")
    return numbered(texts)


def _names_of(feature: Any) -> list[str] | None:
    """The names of a ClassLabel; None for another column."""
    return getattr(feature, "names", None)


def _label_column(features: Mapping[str, Any], stated: str, library: Any, *, where: str) -> str | None:
    if stated == "none":
        return None
    if stated != "auto":
        if stated not in features:
            raise UsageError(f"{where} has no column {quoted(stated)}. Its columns: {', '.join(features)}")
        return stated
    found = [name for name, feature in features.items() if isinstance(feature, library.ClassLabel)]
    if len(found) > 1:
        raise UsageError(
            f"{where} has several columns of classes: {', '.join(found)}. Say which: label={found[0]}; or label=none"
        )
    return next(iter([*found, *(name for name in _LABELS if name in features)]), None)


def _check_column(table: Table, column: str, what: str) -> None:
    if column not in table.features:
        raise UsageError(f"{what} has no column {quoted(column)}. Its columns: {', '.join(table.features)}")


def _column(table: Table, column: str, *, where: str) -> Any:
    values = table.select_columns([column]).with_format("arrow")[:][column]
    if values.null_count:
        raise DataError(f"{where}: {values.null_count:,} rows have no class in column {column}. Say label=none")
    return values.to_numpy()


def _kind(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)


def identity(table: Table, *, saved: bool) -> list[Any]:
    """What changes with a table: the names, sizes and times of saved files, or the library's mark of converted ones.

    The library converts what it loads into its cache, whose files' times say nothing of the set.
    """
    if not saved:
        return [str(table.split), len(table), getattr(table, "_fingerprint", None)]
    return [
        [Path(file["filename"]).name, status.st_size, status.st_mtime_ns]
        for file in table.cache_files
        for status in [Path(file["filename"]).stat()]
    ]
