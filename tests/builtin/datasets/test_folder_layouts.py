"""What counts as a class, as storage, as a split and as an image in a folder or zip."""

import itertools
import json
import os
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from debiasctl.api import DataLocation, Dataset, LoadedDataset
from debiasctl.builtin.datasets._support.image_files import ImageFile
from debiasctl.builtin.datasets._support.image_labels import stored_in_shards
from debiasctl.builtin.datasets._support.image_layout import read_layout
from debiasctl.builtin.datasets.images import Images
from debiasctl.errors import DataError, PluginOptionsError, UsageError
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef

COLOURS = itertools.count(1)


def folder(path: Path, **options: Any) -> Dataset:
    made: Dataset = create("datasets", PluginRef("folder", {"path": str(path), **options}))
    return made


def save(path: Path, *, size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (next(COLOURS) % 256, 0, 0)).save(path)


def make(root: Path, names: list[str]) -> Path:
    for name in names:
        save(root / name)
    return root


def classes_of(data: LoadedDataset) -> Counter[str]:
    """How many images of each class there are in both splits."""
    found: Counter[str] = Counter()
    for split in (data.train, data.heldout):
        labels = split.labels(torch.arange(len(split)))
        assert labels is not None
        found.update(data.info.classes[label] for label in labels.tolist())
    return found


# ---------------------------------------------------------------- dataset.json


EDM = [f"{i // 4:05}/img{i:08}.png" for i in range(12)]


def edm(path: Path, labels: Any, *, names: list[str] = EDM, at: str = "") -> Path:
    """A set as EDM's dataset_tool writes it, as a zip where the path says so."""
    root = make(path.with_suffix("") / at, names)
    (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    if path.suffix != ".zip":
        return path
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(path.with_suffix("").rglob("*.*")):
            archive.write(file, file.relative_to(path.with_suffix("")).as_posix())
    return path


@pytest.mark.parametrize("name, at", [("set", ""), ("set.zip", ""), ("set.zip", "inner")])
@pytest.mark.parametrize(
    "form",
    [
        lambda names: [[name, i % 3] for i, name in enumerate(names)],
        lambda names: {name: i % 3 for i, name in enumerate(names)},
        lambda names: [[name.replace("/", "\\"), float(i % 3)] for i, name in enumerate(names)],
        lambda names: [[name, [float(i % 3 == one) for one in range(3)]] for i, name in enumerate(names)],
    ],
)
def test_dataset_json_states_the_classes(name: str, at: str, form: Any, tmp_path: Path, location: DataLocation) -> None:
    data = folder(edm(tmp_path / name, form(EDM), at=at)).load(location)
    assert data.info.classes == ("0", "1", "2")
    assert classes_of(data) == {"0": 4, "1": 4, "2": 4}
    assert sum(data.info.class_counts) == len(data.train)


def test_a_zip_of_one_storage_folder_keeps_its_labels(tmp_path: Path, location: DataLocation) -> None:
    names = [f"00000/img{i:08}.png" for i in range(6)]
    path = edm(tmp_path / "set.zip", [[name, i % 2] for i, name in enumerate(names)], names=names)
    assert classes_of(folder(path).load(location)) == {"0": 3, "1": 3}


def test_texts_and_numbers_above_nine_are_classes_in_order(tmp_path: Path, location: DataLocation) -> None:
    data = folder(edm(tmp_path / "a", [[name, 9 + i % 2] for i, name in enumerate(EDM)])).info(location)
    assert data.classes == ("9", "10")
    data = folder(edm(tmp_path / "b", [[name, "dog" if i % 2 else "cat"] for i, name in enumerate(EDM)])).info(location)
    assert data.classes == ("cat", "dog")


@pytest.mark.parametrize("name", ["set", "set.zip"])
def test_labels_null_means_no_classes(name: str, tmp_path: Path, location: DataLocation) -> None:
    data = folder(edm(tmp_path / name, None)).load(location)
    assert (data.info.classes, data.info.class_counts, len(data.train) + len(data.heldout)) == ((), (), 12)


def test_changed_labels_are_other_data(tmp_path: Path, location: DataLocation) -> None:
    first = folder(edm(tmp_path / "set", [[name, i % 3] for i, name in enumerate(EDM)])).load(location)
    (tmp_path / "set" / "dataset.json").write_text(
        json.dumps({"labels": [[name, i % 2] for i, name in enumerate(EDM)]})
    )
    second = folder(tmp_path / "set").load(location)
    assert second.info.classes == ("0", "1")
    assert second.content_hash != first.content_hash


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "cannot be read as JSON"),
        ("[]", "has no 'labels'"),
        ("{}", "has no 'labels'.*classes=folders"),
        ('{"labels": 3}', "is not a file's name with its label"),
        ('{"labels": [[3, 4]]}', "is not a file's name with its label"),
        ('{"labels": [["00000/img00000000.png", 1]]}', "has no label for 11 of 12 images.*classes=none"),
        (json.dumps({"labels": [[name, True] for name in EDM]}), "which is no class"),
        (json.dumps({"labels": [[name, [0.5, 0.5]] for name in EDM]}), "only one-hot vectors are read"),
        (json.dumps({"labels": [[name, i if i else "x"] for i, name in enumerate(EDM)]}), "mixes numbers and texts"),
    ],
)
def test_labels_that_are_refused(text: str, message: str, tmp_path: Path, location: DataLocation) -> None:
    root = edm(tmp_path / "set", None)
    (root / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=f"(?s)dataset.json.*{message}"):
        folder(root).info(location)
    assert folder(root, classes="none").info(location).classes == ()
    assert folder(root, classes="folders").info(location).classes == ("00000", "00001", "00002")


# ---------------------------------------------------------------- storage or classes


@pytest.mark.parametrize(
    "counts, storage",
    [
        ({"00000": 7, "00001": 9, "00002": 3}, True),  # as StyleGAN's tool names them
        ({"000000": 1000, "001000": 1000, "002000": 24}, True),  # as EDM's generate.py does
        ({"0": 5, "1": 5, "2": 5}, True),
        ({str(i): 6 for i in range(11)} | {"11": 2}, True),  # the last by number, not by letters
        ({"part-1": 8, "part-2": 8, "part-3": 1}, True),
        ({f"{i:02x}": i for i in range(20)}, True),  # the beginnings of hashes
        ({"00000": 4}, True),
        ({"0": 5, "1": 7, "2": 5}, False),
        ({"0": 5, "1": 5, "2": 6}, False),
        ({"class0": 5, "class1": 5}, False),
        ({"cat": 5, "dog": 5}, False),
        ({"n01440764": 5, "x01443537": 5}, False),
        ({"3": 4, "dog": 4}, False),
        ({"cat": 4}, False),
    ],
)
def test_storage_is_told_from_classes_by_names_and_sizes(counts: dict[str, int], storage: bool) -> None:
    assert stored_in_shards(list(counts), list(counts.values())) == storage


SHARDS = [f"{i // 4}/{i}.png" for i in range(12)]


@pytest.mark.parametrize("split", ["", "train/"])
def test_folders_that_may_be_storage_are_asked_about(split: str, tmp_path: Path, location: DataLocation) -> None:
    root = make(tmp_path / "set", [split + name for name in SHARDS])
    with pytest.raises(UsageError, match=r"0/ \(4\), 1/ \(4\), 2/ \(4\) may store images in portions") as caught:
        folder(root).info(location)
    assert caught.value.hint is not None
    assert caught.value.hint.ways == ({"classes": "none"}, {"classes": "folders"})
    assert folder(root, classes="none").load(location).info.classes == ()
    assert folder(root, classes="folders").load(location).info.classes == ("0", "1", "2")


def test_no_classes_takes_images_wherever_they_lie(tmp_path: Path, location: DataLocation) -> None:
    info = folder(make(tmp_path / "set", ["0.png", "a/1.png", "a/b/2.png"]), classes="none").info(location)
    assert (info.classes, info.num_train + info.num_heldout) == ((), 3)


def test_one_storage_folder_is_no_class(tmp_path: Path, location: DataLocation) -> None:
    assert folder(make(tmp_path / "set", EDM[:4])).load(location).info.classes == ()


@pytest.mark.parametrize(
    "names, labels",
    [
        (EDM, None),
        ([f"samples/{name}" for name in EDM], None),
        (["0/1.png", "0/2.png", "1/3.png", "2/4.png"], [0, 0, 1, 2]),
        (["cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png"], [0, 0, 1, 1]),
    ],
)
def test_storage_of_samples_is_not_taken_for_chosen_class_counts(
    names: list[str],
    labels: list[int] | None,
    tmp_path: Path,
    location: DataLocation,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = Images(Images.Options(path=str(make(tmp_path / "samples", names)))).load(location)
    found = data.train.labels(torch.arange(len(data.train)))
    assert (None if found is None else found.tolist()) == labels
    assert ("00000/, 00001/, ... look like storage" in caplog.text) == (labels is None)


def test_labels_of_samples_in_dataset_json(tmp_path: Path, location: DataLocation) -> None:
    root = edm(tmp_path / "samples", [[name, i % 2] for i, name in enumerate(EDM)])
    data = Images(Images.Options(path=str(root))).load(location)
    labels = data.train.labels(torch.arange(12))
    assert labels is not None
    assert labels.tolist() == [0, 1] * 6


# ---------------------------------------------------------------- the split


def layout(names: list[str], **options: Any) -> Any:
    files = [ImageFile(name, (0, 0)) for name in names]
    return read_layout(files, Path("x"), **{"heldout_fraction": 0.1, "classes": "folders", **options})


@pytest.mark.parametrize("fraction", [1e-9, 0.1, 0.5, 0.9, 1 - 1e-9])
def test_no_class_loses_its_last_training_image(fraction: float) -> None:
    names = [f"c{size}/{start}-{i}.png" for start in range(5) for size in range(1, 6) for i in range(size)]
    for salt in range(20):
        found = layout([f"{name.partition('/')[0]}/{salt}{name}" for name in names], heldout_fraction=fraction)
        assert min(found.class_counts()) >= 1
        assert found.heldout
        single = layout([f"a{salt}/1.png", f"b{salt}/1.png", f"b{salt}/2.png"], heldout_fraction=fraction)
        assert single.class_counts() == (1, 1)


def test_one_image_of_each_class_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"one image of each class.*classes=none"):
        layout(["a/1.png", "b/1.png"])
    assert len(layout(["a/1.png", "b/1.png"], classes="none").heldout) == 1


def test_only_classes_that_would_be_lost_are_divided_otherwise_than_before() -> None:
    large = [f"{name}/{i}.png" for name in "ab" for i in range(300)]
    now, before = layout(large), layout(large, split="by-name")
    assert (list(now.train), list(now.heldout)) == (list(before.train), list(before.heldout))
    lost = next(f"c/{i}.png" for i in itertools.count() if _held_out_by_name(large, f"c/{i}.png"))
    now, before = layout([*large, lost]), layout([*large, lost], split="by-name")
    assert before.class_counts()[2] == 0
    assert now.class_counts()[2] == 1
    assert {file.name for file in now.train} - {file.name for file in before.train} == {lost}


def _held_out_by_name(others: list[str], name: str) -> bool:
    return name in [file.name for file in layout([*others, name], split="by-name").heldout]


def test_a_class_whose_training_image_is_unreadable_is_trained_on_another(
    tmp_path: Path, location: DataLocation
) -> None:
    root = make(tmp_path / "set", [f"{name}/{i}.png" for name in "ab" for i in range(2)])
    first = folder(root, heldout=0.999).load(location)
    assert first.info.class_counts == (1, 1)
    [kept] = [file.name for file in layout(["b/0.png", "b/1.png"], heldout_fraction=0.999).train]
    (root / kept).write_bytes(b"")
    for dataset in (folder(root, heldout=0.999, skip_unreadable=True) for _ in range(2)):  # decoded, and from the cache
        data = dataset.load(location)
        assert data.info.class_counts == (1, 1)
        assert classes_of(data) == {"a": 2, "b": 1}
        assert data.info == dataset.info(location)


def test_the_earlier_rule_keeps_its_split_whatever_is_unreadable(tmp_path: Path, location: DataLocation) -> None:
    root = make(tmp_path / "set", [f"{i}.png" for i in range(40)])
    whole = folder(root, split="by-name").load(location)
    held = [file.name for file in layout([f"{i}.png" for i in range(40)], split="by-name").heldout]
    (root / held[0]).write_bytes(b"")
    data = folder(root, split="by-name", skip_unreadable=True).load(location)
    assert (len(data.train), len(data.heldout)) == (len(whole.train), len(held) - 1)


@pytest.mark.parametrize(
    "tops, heldout",
    [
        (("train", "validation"), "validation"),
        (("train", "valid", "test"), "valid"),
        (("training", "testing"), "testing"),
        (("Train", "Val"), "Val"),
        (("TRAIN", "TEST", "VALIDATION"), "VALIDATION"),
    ],
)
def test_names_of_splits(tops: tuple[str, ...], heldout: str, tmp_path: Path, location: DataLocation) -> None:
    root = make(tmp_path / "set", [f"{top}/{name}/{i}.png" for top in tops for name in "ab" for i in range(2)])
    dataset = folder(root)
    data = dataset.load(location)
    assert (data.info.classes, len(data.train), len(data.heldout)) == (("a", "b"), 4, 4)
    assert layout([f"{top}/a/0.png" for top in tops]).heldout_folder == heldout


def test_capitalised_names_are_classes_beside_others() -> None:
    names = [f"{name}/{i}.png" for name in ("Bus", "Train") for i in range(3)]
    assert layout(names).classes == ("Bus", "Train")


@pytest.mark.parametrize(
    "tops, message",
    [(("train", "val", "valid"), "train/ and val/ and valid/, of which two"), (("validation", "a"), "but no train/")],
)
def test_splits_that_are_refused(tops: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        layout([f"{top}/{i}.png" for top in tops for i in range(2)])


# ---------------------------------------------------------------- hints


@pytest.fixture
def difficult(tmp_path: Path) -> Path:
    """Images of different sizes in folders that may be storage; a broken header, a broken body and dangling links."""
    root = tmp_path / "my images"
    for i in range(12):
        save(root / str(i // 4) / f"{i}.png", size=(20 + i, 40))
    (root / "1" / "5.png").write_bytes(b"no image")
    whole = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    whole.save(root / "2" / "9.png")
    (root / "2" / "9.png").write_bytes((root / "2" / "9.png").read_bytes()[:-800])
    (root / "0" / "dangling.png").symlink_to("nowhere")
    (root / "1" / "itself.png").symlink_to("itself.png")
    (root / "0" / "circle").symlink_to("circle")
    return root


def test_a_hint_solves_every_problem_at_once(difficult: Path, location: DataLocation) -> None:
    with pytest.raises(UsageError, match="may store images") as caught:
        folder(difficult, heldout=0.2).info(location)
    hint = caught.value.hint
    assert hint is not None
    assert "3 of 14 images" in hint.problem
    assert "different sizes" in hint.problem
    assert [dict(way) for way in hint.ways] == [
        {"classes": which, "skip_unreadable": True, "image_size": 16} for which in ("none", "folders")
    ]
    text = f"'folder:path=\"{difficult}\",heldout=0.2,classes=none,skip_unreadable=true,image_size=16'"
    assert text in str(caught.value)
    for way in hint.ways:
        data = folder(difficult, heldout=0.2, **way).load(location)
        assert len(data.train) + len(data.heldout) == 10


@pytest.mark.parametrize("options", [{}, {"image_size": 16}, {"skip_unreadable": True}, {"mode": "grey"}])
def test_no_hint_leads_back(options: dict[str, Any], difficult: Path, location: DataLocation) -> None:
    given = {"classes": "none", **options}
    with pytest.raises((DataError, UsageError)) as caught:
        folder(difficult, **given).load(location)
    hint = caught.value.hint
    assert hint is not None
    [way] = hint.ways
    assert {**given, **way} == {**given, "image_size": 16, "skip_unreadable": True}
    assert len(folder(difficult, **given, **way).load(location).train) > 1


def test_what_no_option_mends_has_no_hint(tmp_path: Path, location: DataLocation) -> None:
    root = make(tmp_path / "set", ["0.png", "1.png"])
    save(root / "2.png", size=(30, 30))
    for name in ("0.png", "1.png"):
        (root / name).write_bytes(b"")
    with pytest.raises(DataError, match="2 of 3 images") as caught:
        folder(root).info(location)
    assert caught.value.hint is not None
    assert caught.value.hint.ways == ()
    assert "only one image" in str(caught.value) or "remain to train on" in str(caught.value)


def test_entries_that_cannot_be_examined_are_left_out_when_asked(
    tmp_path: Path, location: DataLocation, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "links", [f"{i}.png" for i in range(6)])
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (root / "self.png").symlink_to("self.png")
    (root / "self").symlink_to("self")
    with pytest.raises(DataError, match=r"2 of 8 images .* gone\.png \(No such file.*; self\.png \(Too many levels"):
        folder(root).info(location)
    data = folder(root, skip_unreadable=True).load(location)
    left_out = caplog.text.partition("2 unreadable images are left out: ")[2].splitlines()[0]
    assert sorted(left_out.split(", ")) == ["gone.png", "self.png"]
    assert len(data.train) + len(data.heldout) == 6


def test_a_sub_folder_that_cannot_be_listed(
    tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "set", [f"{name}/{i}.png" for name in "ab" for i in range(4)])
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).rstrip("/").endswith("set/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"the folder b/ cannot be read \(Permission denied\).*skip_unreadable=true"):
        folder(root).info(location)
    assert folder(root, skip_unreadable=True).info(location).classes == ("a",)
    assert "the folder b/ cannot be read and is left out: Permission denied" in caplog.text
    with pytest.raises(DataError, match="the folder b/ cannot be read"):
        Images(Images.Options(path=str(root))).load(location)


# ---------------------------------------------------------------- notes


def notes_of(caplog: pytest.LogCaptureFixture, dataset: Dataset, location: DataLocation) -> str:
    caplog.clear()
    dataset.info(location)
    dataset.recommended(location)
    return caplog.text


def test_other_files_are_counted_by_ending(
    tmp_path: Path, location: DataLocation, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "set", [f"a/{i}.PNG" for i in range(4)])
    hidden = ("a/Thumbs.db", ".DS_Store", "__MACOSX/._0.png", "a/desktop.ini", ".git/x.pgm")
    for name in ("1.pgm", "a/2.PGM", "3.ppm", "notes", *hidden):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    found = notes_of(caplog, folder(root), location)
    assert found.count("passed over") == 1
    counted = found.partition("passed over ")[2].partition(":")[0]
    assert sorted(counted.split(", ")) == ["1 .ppm", "1 without ending", "2 .pgm"]
    packed = tmp_path / "set.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(root).as_posix())
    assert "2 .pgm" in notes_of(caplog, folder(packed), location)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "1.pgm").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no images\. It holds other files: 1 \.pgm"):
        folder(tmp_path / "none").info(location)


def test_a_crop_is_noted_with_what_it_loses(
    tmp_path: Path, location: DataLocation, caplog: pytest.LogCaptureFixture
) -> None:
    root = make(tmp_path / "set", ["0.png", "1.png"])
    for i, size in enumerate([(8, 10), (16, 8), (8, 32)]):
        save(root / f"w{i}.png", size=size)
    text = "3 of 5 images are not square: image_size=8 crops each to its middle square, which leaves out 50% of their"
    dataset = folder(root, image_size=8)
    assert text in notes_of(caplog, dataset, location)
    dataset.load(location)
    assert text in notes_of(caplog, folder(root, image_size=8), location)  # from the cache


def test_transparency_is_noted(tmp_path: Path, location: DataLocation, caplog: pytest.LogCaptureFixture) -> None:
    root = make(tmp_path / "set", ["0.png", "1.png", "2.png"])
    assert "transparency" not in notes_of(caplog, folder(root), location)
    Image.new("RGBA", (8, 8), (9, 9, 9, 0)).save(root / "clear.png")
    Image.new("P", (8, 8)).save(root / "palette.png", transparency=0)
    text = "2 of 5 images have transparency: what is transparent is laid over white"
    dataset = folder(root)
    assert text in notes_of(caplog, dataset, location)
    dataset.load(location)
    assert text in notes_of(caplog, folder(root), location)  # from the cache


@pytest.mark.parametrize(
    "pattern, hint",
    [
        ("{word}_{i:05}.png", "2 words that may be classes (cat, dog)"),
        ("{i:05}-{word}.png", "2 words that may be classes (cat, dog)"),
        ("img_{i:05}.png", ""),
        ("{i:05}.png", ""),
        ("{word}{i}x.png", ""),
    ],
)
def test_labels_in_file_names_are_hinted_at(
    pattern: str, hint: str, tmp_path: Path, location: DataLocation, caplog: pytest.LogCaptureFixture
) -> None:
    names = [pattern.format(word=("cat", "dog")[i % 2], i=i) for i in range(8)]
    found = notes_of(caplog, folder(make(tmp_path / "set", names)), location)
    assert hint in found
    assert ("may be classes" in found) == bool(hint)


def test_splits_are_noted(tmp_path: Path, location: DataLocation, caplog: pytest.LogCaptureFixture) -> None:
    tops = ("train", "validation", "test")
    root = make(tmp_path / "set", [f"{top}/{i}.png" for top in tops for i in range(2)])
    assert "validation/ is held out; test/ is not used" in notes_of(caplog, folder(root), location)


# ---------------------------------------------------------------- names that are not UTF-8


def test_a_path_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    for name in ("folder", "image-files"):
        with pytest.raises(
            PluginOptionsError, match=r"the path is not UTF-8, so no spec can hold it\. Rename the folder"
        ):
            create("datasets", PluginRef(name, {"path": path}))


def test_file_names_that_are_not_utf8_are_read_and_class_names_refused(tmp_path: Path, location: DataLocation) -> None:
    strange = os.fsdecode(b"caf\xe9")
    try:
        make(tmp_path / "files", [f"a/{strange}{i}.png" for i in range(4)])
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    (tmp_path / "files" / "a" / f"{strange}.png").write_bytes(b"")
    for _ in range(2):  # decoded, and from the cache
        assert len(folder(tmp_path / "files", skip_unreadable=True).load(location).train) >= 2
    make(tmp_path / "classes", [f"{strange}/{i}.png" for i in range(4)])
    with pytest.raises(DataError, match=r"has a name that is not UTF-8\. Rename it"):
        folder(tmp_path / "classes").info(location)


@pytest.mark.parametrize("path", ["", " ", "~nosuchuserhere/x"])
def test_paths_that_name_nothing(path: str) -> None:
    for name in ("folder", "image-files"):
        with pytest.raises(PluginOptionsError):
            create("datasets", PluginRef(name, {"path": path}))
