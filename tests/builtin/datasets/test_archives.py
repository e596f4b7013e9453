"""Images in place, whatever form they have: a folder, a zip, a tar or an npz; and their classes from tables."""

import io
import json
import os
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from debiasctl.api import DataLocation, Dataset, LoadedDataset
from debiasctl.errors import DataError, PluginOptionsError, UsageError
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef

NAMES = [f"{top}/{i:02}.png" for top in ("cat", "dog") for i in range(12)]


def folder(path: Path, **options: Any) -> Dataset:
    made: Dataset = create("datasets", PluginRef("folder", {"path": str(path), **options}))
    return made


def image(name: str, mode: str = "RGB") -> Image.Image:
    """Another image for each name."""
    seed = sum(name.encode()) * 31 + len(name)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def png(name: str) -> bytes:
    stream = io.BytesIO()
    image(name).save(stream, "PNG")
    return stream.getvalue()


def as_folder(at: Path, names: list[str] = NAMES) -> Path:
    for name in names:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(png(name))
    return at


def as_zip(at: Path, names: list[str] = NAMES) -> Path:
    with zipfile.ZipFile(at.with_suffix(".zip"), "w") as archive:
        for name in names:
            archive.writestr(name, png(name))
    return at.with_suffix(".zip")


def member(archive: tarfile.TarFile, name: str, content: bytes | None = None, **fields: Any) -> None:
    info = tarfile.TarInfo(name)
    content = png(name) if content is None else content
    info.size = 0 if "type" in fields else len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    archive.addfile(info, io.BytesIO(content))


def as_tar(at: Path, names: list[str] = NAMES, *, prefix: str = "./", kind: str = "w") -> Path:
    path = at.with_suffix(".tar")
    with tarfile.open(path, kind) as archive:
        for name in reversed(names):
            member(archive, prefix + name, png(name))
    return path


def as_npz(at: Path, files: list[str] = NAMES, *, save: Any = np.savez, **more: Any) -> Path:
    save(at.with_suffix(".npz"), images=np.stack([np.asarray(image(name)) for name in files]), **more)
    return at.with_suffix(".npz")


FORMS: dict[str, Callable[[Path], Path]] = {
    "zip": as_zip,
    "tar": as_tar,
    "tar of a folder": lambda at: as_tar(at, prefix="set/"),
    "npz": lambda at: as_npz(at, NAMES[::-1], names=NAMES[::-1]),
    "npz, compressed": lambda at: as_npz(at, save=np.savez_compressed, names=NAMES),
}


def first_batch(data: LoadedDataset) -> tuple[list[int], list[int]]:
    chosen = torch.tensor([5, 0, 3])
    labels = data.train.labels(chosen)
    assert labels is not None
    return data.train.images(chosen).flatten().tolist(), labels.tolist()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", [{}, {"image_size": 4, "mode": "grey"}])
def test_the_same_files_are_the_same_data_in_every_form(
    form: str, options: dict[str, Any], tmp_path: Path, location: DataLocation
) -> None:
    data = folder(as_folder(tmp_path / "set"), **options).load(location)
    other = folder(FORMS[form](tmp_path / "packed"), **options).load(location)
    assert other.info == data.info
    assert other.info.classes == ("cat", "dog")
    assert other.content_hash == data.content_hash
    assert first_batch(other) == first_batch(data)


def test_nothing_is_unpacked(tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    from debiasctl.builtin.datasets._support import decoded_images

    monkeypatch.setattr(decoded_images, "MAX_DECODED_BYTES", 0)
    path = as_tar(tmp_path / "set")
    data = folder(path).load(location)
    assert data.train.images(torch.tensor([0])).shape == (1, 3, 8, 8)
    stored = [one for one in (tmp_path / "cache").rglob("*") if one.is_file() and one.suffix != ".lock"]
    assert [(one.name, one.stat().st_size) for one in stored] == [
        ("hashes", 32 * (len(data.train) + len(data.heldout)))
    ]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["cache", "set.tar"]


def test_a_changed_tar_is_read_again(tmp_path: Path, location: DataLocation) -> None:
    before = folder(as_tar(tmp_path / "set")).load(location).content_hash
    with tarfile.open(tmp_path / "set.tar", "a") as archive:
        member(archive, "./cat/00.png", png("other"))  # as tar unpacks it, the last of a name counts
    os.utime(tmp_path / "set.tar", ns=(1, 1))
    after = folder(tmp_path / "set.tar").load(location)
    assert after.content_hash != before
    assert after.info.num_train + after.info.num_heldout == len(NAMES)


def test_a_tar_that_changes_while_it_is_used_is_noticed(tmp_path: Path, location: DataLocation) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        for name in NAMES:
            member(archive, name)
    data = folder(path, identify="files").load(location)
    with open(path, "r+b") as stream:
        stream.write(stream.read().replace(b"cat/01.png", b"cat/71.png"))
    os.utime(path, ns=(5, 5))
    with pytest.raises(DataError, match=r"set.tar has changed while it was in use"):
        data.train.images(torch.arange(4))


def test_links_in_a_tar_are_what_they_lead_to(tmp_path: Path, location: DataLocation) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name in ("a/1.png", "a/2.png", "b/1.png"):
            member(archive, name)
        member(archive, "b/hard.png", type=tarfile.LNKTYPE, linkname="a/1.png")
        member(archive, "b/soft.png", type=tarfile.SYMTYPE, linkname="../a/2.png")
    root = as_folder(tmp_path / "set", ["a/1.png", "a/2.png", "b/1.png"])
    (root / "b/hard.png").write_bytes(png("a/1.png"))
    (root / "b/soft.png").write_bytes(png("a/2.png"))
    assert folder(tmp_path / "set.tar").load(location).content_hash == folder(root).load(location).content_hash


@pytest.mark.parametrize(
    "name, fields, reason",
    [
        ("b/gone.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "is a link to '/etc/passwd'"),
        ("b/loop.png", {"type": tarfile.SYMTYPE, "linkname": "loop.png"}, "is a link to 'b/loop.png'"),
        ("b/pipe.png", {"type": tarfile.FIFOTYPE}, "it is no regular file"),
        ("../out.png", {}, "its name leads out of the archive"),
        ("/abs.png", {}, "its name leads out of the archive"),
    ],
)
def test_members_of_a_tar_that_are_not_read(
    name: str, fields: dict[str, Any], reason: str, tmp_path: Path, location: DataLocation
) -> None:
    with tarfile.open(as_tar(tmp_path / "set"), "a") as archive:
        member(archive, name, **fields)
    with pytest.raises(DataError, match=rf"(?s){name}.*{reason}.*skip_unreadable=true"):
        folder(tmp_path / "set.tar").load(location)
    data = folder(tmp_path / "set.tar", skip_unreadable=True).load(location)
    assert data.info.num_train + data.info.num_heldout == len(NAMES)


@pytest.mark.parametrize("kind, tool", [("gz", "gzip"), ("xz", "xz"), ("bz2", "bzip2")])
@pytest.mark.parametrize("ending", [True, False])
def test_a_compressed_tar_is_refused_with_the_command_that_helps(
    kind: str, tool: str, ending: bool, tmp_path: Path, location: DataLocation
) -> None:
    path = as_tar(tmp_path / "set", kind=f"w:{kind}")
    path = path.rename(tmp_path / f"set.tar.{kind}") if ending else path
    with pytest.raises(UsageError, match=rf"is a compressed tar.*{tool} -dk {path.name}"):
        folder(path).info(location)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda data: data[:-700].rstrip(b"\0")[:-100], "cannot be read as a tar: unexpected end"),
        (
            lambda data: data[: 512 * 6] + b"\xff" * 512 + data[512 * 7 :],
            "cannot be read as a tar: it is damaged at byte",
        ),
        (lambda data: b"", "cannot be read as a tar"),
        (lambda data: b"no tar" * 300, "cannot be read as a tar"),
    ],
)
def test_a_damaged_tar_is_refused(
    damage: Callable[[bytes], bytes], message: str, tmp_path: Path, location: DataLocation
) -> None:
    path = as_tar(tmp_path / "set")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        folder(path).info(location)


def test_an_npz_without_names_is_numbered_as_sample_does(tmp_path: Path, location: DataLocation) -> None:
    root = tmp_path / "set"
    root.mkdir()
    for number, name in enumerate(NAMES):
        (root / f"{number:02}.png").write_bytes(png(name))
    (root / "dataset.json").write_text(json.dumps({"labels": [[f"{i:02}.png", i % 11] for i in range(24)]}))
    data = folder(root).load(location)
    packed = folder(as_npz(tmp_path / "set", labels=np.arange(24) % 11)).load(location)
    assert packed.content_hash == data.content_hash
    assert packed.info.classes == tuple(map(str, range(11)))


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"images": np.zeros((3, 8, 8, 3))}, "float64"),
        ({"other": np.zeros(3)}, "no images, named images or arr_0"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "names": np.array(["a.png", "a.png"])}, "holds a.png twice"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "names": np.array(["a", "b.png"])}, "'a', which is no image file's"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros((2, 5))}, "one whole number or text for each"),
        ({"images": np.array([{}])}, "'images' is an array of Python objects"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "names": np.array(["/a.png", "b.png"])}, "'/a.png', which is no"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "names": np.array(["../a.png", "b.png"])}, "'../a.png', which is"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "names": np.array(["./a.png", "a.png"])}, "holds a.png twice"),
    ],
)
def test_an_npz_of_something_else(arrays: dict[str, Any], message: str, tmp_path: Path, location: DataLocation) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(DataError, match=message):
        folder(tmp_path / "set.npz").info(location)


def test_images_of_an_npz_need_not_be_square(tmp_path: Path, location: DataLocation) -> None:
    np.savez(tmp_path / "set.npz", images=np.arange(4 * 6 * 8, dtype=np.uint8).reshape(4, 6, 8))
    assert folder(tmp_path / "set.npz", image_size=6).load(location).info.channels == 1


@pytest.mark.parametrize("form", ["./{}", "./top/{}", "top/./{}", ".//top//{}"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_are_written_otherwise(kind: str, form: str, tmp_path: Path, location: DataLocation) -> None:
    expected = folder(as_folder(tmp_path / "set"))
    path = tmp_path / f"set.{kind}"
    with zipfile.ZipFile(path, "w") if kind == "zip" else tarfile.open(path, "w") as archive:
        for name in NAMES:
            if isinstance(archive, tarfile.TarFile):
                member(archive, form.format(name), png(name))
            else:
                archive.writestr(zipfile.ZipInfo(form.format(name)), png(name))
    found = folder(path)
    assert found.load(location).content_hash == expected.load(location).content_hash
    assert found.info(location).classes == expected.info(location).classes


def test_a_link_in_a_zip_is_named(tmp_path: Path, location: DataLocation) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in NAMES:
            archive.writestr(name, png(name))
        info = zipfile.ZipInfo("link.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, NAMES[0])
    with pytest.raises(DataError, match=r"link.png cannot be read \(it is a link, which is not followed in a zip\)"):
        folder(tmp_path / "set.zip").info(location)


def test_a_zip_of_dos_may_have_backslashes(tmp_path: Path, location: DataLocation) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in NAMES:
            info = zipfile.ZipInfo("x")
            info.filename, info.create_system = name.replace("/", "\\"), 0
            archive.writestr(info, png(name))
    data = folder(tmp_path / "set.zip").load(location)
    assert data.content_hash == folder(as_folder(tmp_path / "set")).load(location).content_hash


# ---------------------------------------------------------------- classes from a table

FLAT = [f"{i:02}.png" for i in range(12)]
CLASSES = ["cat" if i % 3 else "dog" for i in range(12)]
PAIRS = list(zip(FLAT, CLASSES, strict=True))
TABLES = {
    "plain.csv": "".join(f"{name},{label}\n" for name, label in PAIRS),
    "header.csv": "file,label\n" + "".join(f"{name},{label}\n" for name, label in PAIRS),
    "swapped.csv": "class,image_id\n" + "".join(f"{label},{name[:-4]}\n" for name, label in PAIRS),
    "wide.csv": "id,age,category\n" + "".join(f'{name},3,"{label}"\n' for name, label in PAIRS),
    "bom.csv": "\ufeffa,b\r\n" + "".join(f"{name} , {label}\r\n" for name, label in PAIRS),
    "semicolons.csv": "file;label\n" + "".join(f"{name};{label}\n" for name, label in PAIRS),
    "tabs.csv": "".join(f"{name}\t{label}\n" for name, label in PAIRS),
    "found.csv": "".join(f"./{name},{label}\n" for name, label in PAIRS),
    "list.json": json.dumps(PAIRS),
    "found.json": json.dumps([[f".//{name}", label] for name, label in PAIRS]),
    "object.json": json.dumps(dict(PAIRS)),
    "edm.json": json.dumps({"labels": PAIRS}),
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("within", [True, False])
def test_classes_from_a_table(name: str, within: bool, tmp_path: Path, location: DataLocation) -> None:
    root = as_folder(tmp_path / "set", FLAT)
    table = (root if within else tmp_path) / name
    table.write_text(TABLES[name])
    dataset = folder(root, labels=name if within else str(table))
    data = dataset.load(location)
    assert data.info.classes == ("cat", "dog")
    everything = [
        *data.train.labels(torch.arange(len(data.train))),
        *data.heldout.labels(torch.arange(len(data.heldout))),
    ]
    assert sum(map(int, everything)) == CLASSES.count("dog")


def test_whole_numbers_of_a_csv_are_in_their_order(tmp_path: Path, location: DataLocation) -> None:
    root = as_folder(tmp_path / "set", FLAT)
    (tmp_path / "t.csv").write_text("".join(f"{name},{i}\n" for i, name in enumerate(FLAT)).replace(",9\n", ",2\n"))
    classes = folder(root, labels=str(tmp_path / "t.csv"), heldout=0.1).info(location).classes
    assert classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "10", "11")


def test_a_changed_table_is_other_data(tmp_path: Path, location: DataLocation) -> None:
    root = as_folder(tmp_path / "set", FLAT)
    table = tmp_path / "t.csv"
    table.write_text(TABLES["plain.csv"])
    before = folder(root, labels=str(table)).load(location).content_hash
    table.write_text(TABLES["plain.csv"].replace("dog", "hound"))
    assert folder(root, labels=str(table)).load(location).content_hash != before


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("t.csv", "00.png,cat\n", "has no label for 11 of 12 images, such as 01.png"),
        ("t.csv", "00.png,cat\n00.png,dog\n", "gives '00.png' two classes"),
        ("t.csv", "01.png,cat\nset/00.png,cat\n", "It has one for 'set/00.png', which is no image below the folder"),
        ("t.json", '[["00.png", "cat"], ["./00.png", "dog"]]', "gives './00.png' two classes, 'cat' and 'dog'"),
        ("t.json", json.dumps(dict.fromkeys(FLAT, " ")), "has the label ' ', which is no class"),
        ("t.csv", "00.png\n", "row 1 has no class"),
        ("t.csv", "00.png,\n", "row 1 has no class"),
        ("t.csv", "a,b,c\n00.png,cat,1\n", "none of which is called file"),
        ("t.csv", "file,b,c\n00.png,cat,1\n", "none of which is called label"),
        ("t.csv", b"\xff\xfe", "is not CSV text"),
        ("t.json", "{", "cannot be read as JSON"),
        ("t.json", "3", "has no 'labels'"),
        ("none.csv", None, "there is no such file"),
    ],
)
def test_tables_that_are_refused(
    name: str, text: str | bytes | None, message: str, tmp_path: Path, location: DataLocation
) -> None:
    root = as_folder(tmp_path / "set", FLAT)
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=message):
        folder(root, labels=str(tmp_path / name)).info(location)


def test_a_table_may_have_another_unicode_form_than_the_files(tmp_path: Path, location: DataLocation) -> None:
    root = as_folder(tmp_path / "set", [unicodedata.normalize("NFD", f"caf\u00e9 {i}.png") for i in range(4)])
    (tmp_path / "t.csv").write_text("".join(f"caf\u00e9 {i},{'ab'[i % 2]}\n" for i in range(4)))
    assert folder(root, labels=str(tmp_path / "t.csv")).info(location).classes == ("a", "b")


def test_names_in_a_table_that_are_no_images_are_counted(
    tmp_path: Path, location: DataLocation, caplog: pytest.LogCaptureFixture
) -> None:
    root = as_folder(tmp_path / "set", FLAT)
    (tmp_path / "t.csv").write_text(TABLES["plain.csv"] + "gone.png,cat\naway.png,owl\n")
    assert folder(root, labels=str(tmp_path / "t.csv")).info(location).classes == ("cat", "dog")
    assert "names that are given a class and are no images here: 2" in caplog.text


@pytest.mark.parametrize("at", ["old/set/t.csv", "old/t.csv", "t.csv"])
@pytest.mark.parametrize("kind", ["", ".zip"])
def test_a_table_is_found_where_it_has_moved_with_its_images(
    kind: str, at: str, tmp_path: Path, location: DataLocation
) -> None:
    root = as_folder(tmp_path / "old/set", FLAT)
    if kind:
        as_zip(root, FLAT)
    (tmp_path / at).write_text(TABLES["plain.csv"])
    before = folder(root.with_suffix(kind), labels=str(tmp_path / at))
    expected = before.load(location).content_hash
    assert before.bound_place() == root.with_suffix(kind)
    (tmp_path / "old").rename(tmp_path / "new")
    changed = before.options_at(tmp_path / f"new/set{kind}")
    assert changed.get("labels") == (None if at == "t.csv" else str(tmp_path / at.replace("old", "new")))
    options = before.options.model_dump() | changed
    after = folder(options.pop("path"), **options)
    assert after.load(location).content_hash == expected


@pytest.mark.parametrize("options", [{"labels": "t.csv", "classes": "none"}, {"labels": "t.txt"}, {"labels": ""}])
def test_options_that_contradict_one_another(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PluginOptionsError):
        folder(tmp_path, **options)
