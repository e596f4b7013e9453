"""Data sets of Hugging Face's library, from folders; the hub is not reached."""

import sys
from pathlib import Path
from typing import Any

import datasets
import pytest
from small_images import decoded, everything, png
from tiny import succeed

from debiasctl.api import ArraySplit, DataError, DataLocation, LoadedDataset, UsageError
from debiasctl.registry import create
from debiasctl.registry.refs import PluginRef

NUM, NAMES = 20, ["cat", "dog", "owl"]


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    datasets.disable_progress_bars()


def table(num: int = NUM, *, first: int = 0, **columns: tuple[Any, list[Any]]) -> datasets.Dataset:
    """Images with their number modulo 3 as the class; `columns` are features with their values."""
    rows = {
        "image": (datasets.Image(), [{"bytes": png(first + row), "path": None} for row in range(num)]),
        "label": (datasets.ClassLabel(names=NAMES), [(first + row) % 3 for row in range(num)]),
    } | columns
    features = datasets.Features({name: feature for name, (feature, _) in rows.items()})
    return datasets.Dataset.from_dict({name: values for name, (_, values) in rows.items()}, features=features)


def saved(path: Path, *splits: tuple[str, datasets.Dataset]) -> Path:
    (datasets.DatasetDict(dict(splits)) if splits else table()).save_to_disk(str(path))
    return path


def load(path: Path | str, location: DataLocation, **options: object) -> LoadedDataset:
    return create("datasets", PluginRef("hf", {"path": str(path), **options})).load(location)


@pytest.mark.parametrize("form", ["saved", "dict", "parquet", "parquet file", "images"])
def test_every_form_holds_the_same_images_with_their_classes(form: str, tmp_path: Path, location: DataLocation) -> None:
    path = tmp_path / "data"
    if form == "saved":
        saved(path)
    elif form == "dict":
        saved(path, ("train", table(15)), ("test", table(5, first=15)))
    elif form == "images":
        for number in range(NUM):
            file = path / ("train" if number < 15 else "validation") / NAMES[number % 3] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(number))
    else:
        path.mkdir()
        table().to_parquet(path / "train-00000.parquet")
        path /= "train-00000.parquet" if form == "parquet file" else ""
    data = load(path, location)
    assert everything(data) == {decoded(png(number)): number % 3 for number in range(NUM)}
    assert (data.info.image_size, data.info.channels, data.info.classes) == (8, 3, tuple(NAMES))
    assert len(data.heldout) == 5 or form not in ("dict", "images")
    assert sum(data.info.class_counts) == len(data.train)
    assert isinstance(data.train, ArraySplit)
    late = load(path, location, identify="files", heldout=0.2)
    assert everything(late).keys() == everything(data).keys()
    assert late.files.content_hash() == load(path, location, identify="content", heldout=0.2).content_hash


def test_converted_tables_are_known_whatever_their_cache(
    tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    table().to_parquet(tmp_path / "data" / "a.parquet")
    found = load(tmp_path / "data", location, identify="files").content_hash
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "other")
    assert load(tmp_path / "data", location, identify="files").content_hash == found
    table(19).to_parquet(tmp_path / "data" / "a.parquet")
    assert load(tmp_path / "data", location, identify="files").content_hash != found


def test_columns_and_splits_are_chosen(tmp_path: Path, location: DataLocation) -> None:
    other = [{"bytes": png(100 + row), "path": None} for row in range(NUM)]
    columns = {
        "mask": (datasets.Image(), other),
        "raw": (datasets.Value("binary"), [png(200 + row) for row in range(NUM)]),
        "coarse": (datasets.ClassLabel(names=["a", "b"]), [row % 2 for row in range(NUM)]),
        "number": (datasets.Value("int64"), [10 * (row % 3) for row in range(NUM)]),
        "text": (datasets.Value("string"), ["xy"[row % 2] for row in range(NUM)]),
        "real": (datasets.Value("float32"), [0.5] * NUM),
    }
    path = saved(tmp_path / "data", ("train", table(**columns)), ("extra", table(**columns)))
    with pytest.raises(UsageError, match=r"several columns of images. Say which: image=COLUMN. Its columns: image"):
        load(path, location)
    with pytest.raises(UsageError, match=r"several columns of classes: label, coarse. Say which: label=label"):
        load(path, location, image="mask")
    assert load(path, location, image="image", label="coarse", split="extra").info.classes == ("a", "b")
    assert load(path, location, image="raw", label="none").info.classes == ()
    assert load(path, location, image="raw", label="number").info.classes == ("0", "10", "20")
    assert load(path, location, image="raw", label="text").info.classes == ("x", "y")
    assert decoded(png(203)) in everything(load(path, location, image="raw", label="text"))
    assert len(load(path, location, image="image", label="none", heldout_split="extra").heldout) == NUM
    for wrong, message in (
        ({"image": "number"}, "number of data holds no images"),
        ({"image": "x"}, "no column 'x'"),
        ({"label": "x"}, "no column 'x'"),
        ({"split": "x"}, "no split 'x'. It has: train, extra"),
        ({"heldout_split": "train"}, "both 'train'"),
        ({"revision": "x"}, "revision=x has no effect"),
    ):
        with pytest.raises(UsageError, match=message):
            load(path, location, **{"image": "image", "label": "none"} | wrong)
    with pytest.raises(DataError, match="real holds float32, which are no classes"):
        load(path, location, image="image", label="real")


BAD: dict[str, tuple[dict[str, tuple[Any, list[Any]]], type[Exception], str]] = {
    "no class": ({"label": (datasets.ClassLabel(names=NAMES), [0, 1, 2, -1])}, DataError, "row 3 has the class -1"),
    "null": ({"label": (datasets.Value("string"), ["a", None, "b", "b"])}, DataError, "1 rows have no class"),
    "empty": ({"label": (datasets.Value("string"), ["a", "b", " ", "b"])}, DataError, "row 2 has an empty class"),
    "lists": (
        {"label": (datasets.Sequence(datasets.Value("int64")), [[1], [2, 3], [1], [1]])},
        DataError,
        "which are no classes. Say label=none",
    ),
    "mappings": ({"label": ({"a": datasets.Value("int64")}, [{"a": 1}] * 4)}, DataError, "which are no classes"),
    "no image": (
        {"image": (datasets.Image(), [{"bytes": png(1), "path": None}] * 3 + [None])},
        DataError,
        r"row 3 \(the row holds no image",
    ),
    "damaged": (
        {"image": (datasets.Image(), [{"bytes": png(1)[:50], "path": None}] + [{"bytes": png(1), "path": None}] * 3)},
        DataError,
        "row 0",
    ),
    "sizes": (
        {"image": (datasets.Image(), [{"bytes": png(1, size=6 + 3 * (row > 1)), "path": None} for row in range(4)])},
        UsageError,
        "different sizes: .* image_size=8",
    ),
    "no columns": ({"image": (datasets.Value("int64"), [1] * 4)}, UsageError, "has no column of images"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_named(kind: str, tmp_path: Path, location: DataLocation) -> None:
    columns, error, message = BAD[kind]
    table(4, **columns).save_to_disk(str(tmp_path / "data"))
    with pytest.raises(error, match=message):
        load(tmp_path / "data", location, identify="content")


def test_what_is_nowhere_is_said_to_be(tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="/none does not exist"):
        load(tmp_path / "none", location)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty cannot be loaded"):
        load(tmp_path / "empty", location)
    (tmp_path / "a.zip").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"is no .parquet or .arrow"):
        load(tmp_path / "a.zip", location)

    def load_dataset(*_: object, **__: object) -> None:
        raise answer

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    answer: Exception = ConnectionError("Couldn't reach 'owner/name' on the Hub (LocalEntryNotFoundError)")
    with pytest.raises(DataError, match="owner/name is no folder here, and the Hugging Face hub cannot be reached"):
        load("owner/name", location)
    answer = datasets.exceptions.DatasetNotFoundError("Dataset 'owner/name' doesn't exist on the Hub")
    with pytest.raises(UsageError, match=r"no set that the Hugging Face hub has for you .* Check the name"):
        load("owner/name", location)


DIFFERENT = {
    "class": (table(4).remove_columns("label"), UsageError, "split test of data has no column 'label'"),
    "image": (table(4).remove_columns("image"), UsageError, "split test of data has no column 'image'"),
    "names": (
        table(4, label=(datasets.ClassLabel(names=["x", "y"]), [0, 1] * 2)),
        DataError,
        "classes of column label are not the same in the splits train and test",
    ),
    "type": (table(4, label=(datasets.Value("int64"), [0, 1] * 2)), DataError, "not the same in the splits"),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_splits_that_do_not_go_together_are_refused(kind: str, tmp_path: Path, location: DataLocation) -> None:
    other, error, message = DIFFERENT[kind]
    with pytest.raises(error, match=message):
        load(saved(tmp_path / "data", ("train", table(6)), ("test", other)), location)


def test_all_images_of_splits_are_checked(tmp_path: Path, location: DataLocation) -> None:
    rows = [{"bytes": png(row) if row else b"no image", "path": None} for row in range(4)]
    path = saved(tmp_path / "data", ("train", table(4, image=(datasets.Image(), rows))), ("test", table(4, first=9)))
    dataset = create("datasets", PluginRef("hf", {"path": str(path)}))
    found = [(one.file, one.kind) for one in dataset.problems(location, progress=lambda *_: None)]
    assert found == [("train 0", "unreadable")]
    assert dataset.stored_sizes(location) == {(8, 8): 7}


def test_code_that_a_set_brings_is_not_run(tmp_path: Path, location: DataLocation) -> None:
    """As versions of the library before 4 would, which its extra excludes."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises((DataError, UsageError)):
        load(tmp_path / "data", location)
    assert not (tmp_path / "ran").exists()


def test_a_check_names_rows(tmp_path: Path, location: DataLocation) -> None:
    rows = [{"bytes": png(1), "path": None}] * 2 + [None, {"bytes": png(2), "path": None}]
    table(4, image=(datasets.Image(), rows)).save_to_disk(str(tmp_path / "data"))
    dataset = create("datasets", PluginRef("hf", {"path": str(tmp_path / "data")}))
    found = {(one.file, one.kind) for one in dataset.problems(location, progress=lambda *_: None)}
    assert found == {("row 1", "duplicate"), ("row 2", "unreadable")}


def test_without_the_library_the_message_says_how_to_install_it(
    tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "data")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"needs .*datasets.*pip install 'debiasctl\[hf\]'"):
        load(path, location)


def test_a_run_on_a_saved_set_is_found_where_it_was_moved(tmp_path: Path) -> None:
    path = saved(tmp_path / "data")
    options = ["--batch-size", "4", "--backbone", "dit:hidden_size=16,depth=1,num_heads=2", "--device", "cpu"]
    succeed("train", f"hf:path={path}", "--steps", "1", "--name", "run", *options)
    path = path.rename(tmp_path / "moved")
    succeed("train", "--resume", "run", "--steps", "2", "--data", path)
