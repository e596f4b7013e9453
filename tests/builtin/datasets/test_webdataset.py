"""Shards of images, read in any order."""

import io
import json
import os
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
import torch
from small_images import decoded, everything, png

from debiasctl.api import ArraySplit, DataError, DataLocation, LoadedDataset, UsageError
from debiasctl.builtin.datasets._support import byte_images
from debiasctl.builtin.datasets._support.image_decoding import read_header
from debiasctl.data.moved import bound_path, moved_to
from debiasctl.registry import create
from debiasctl.registry.refs import PluginRef
from debiasctl.specs.sections import RunSpec
from debiasctl.training.batches import BatchSource

Files = Mapping[str, bytes]


def write(path: Path, files: Iterable[tuple[str, bytes]], *, form: int = tarfile.PAX_FORMAT, mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=form) as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def shards(root: Path, num: int = 3, *, per: int = 10) -> str:
    for shard in range(num):
        numbers = range(shard * per, (shard + 1) * per)
        files = [pair for number in numbers for pair in sample(number)]
        write(root / f"part-{shard:03}.tar", files)
    return f"{root}/part-{{000..{num - 1:03}}}.tar"


def sample(number: int) -> list[tuple[str, bytes]]:
    described = json.dumps({"text": "a", "meta": {"kind": ["cat", "dog"][number % 2]}}).encode()
    name = f"{number:05}"
    return [(f"{name}.cls", str(number % 3).encode()), (f"{name}.png", png(number)), (f"{name}.json", described)]


def load(urls: str, location: DataLocation, **options: object) -> LoadedDataset:
    return create("datasets", PluginRef("webdataset", {"urls": urls, **options})).load(location)


@pytest.mark.parametrize("identify", ["auto", "files"])
def test_every_sample_is_read_with_its_class(identify: str, tmp_path: Path, location: DataLocation) -> None:
    data = load(shards(tmp_path), location, identify=identify)
    assert (data.info.image_size, data.info.channels, data.info.classes) == (8, 3, ("0", "1", "2"))
    assert len(data.train) + len(data.heldout) == 30
    assert everything(data) == {decoded(png(number)): number % 3 for number in range(30)}
    assert isinstance(data.train, ArraySplit) is (identify == "auto")
    assert data.content_hash.startswith("files:") is (identify == "files")
    if data.files is not None:
        assert data.files.content_hash() == load(shards(tmp_path / "copy"), location).content_hash


def test_what_is_held_out_depends_on_names_alone(tmp_path: Path, location: DataLocation) -> None:
    few, more = (load(shards(tmp_path / str(num), num), location) for num in (3, 4))
    kept = {row.numpy().tobytes() for row in few.heldout.images(torch.arange(len(few.heldout)))}
    assert kept <= {row.numpy().tobytes() for row in more.heldout.images(torch.arange(len(more.heldout)))}
    urls = shards(tmp_path / "5", 5)
    split = load(f"{tmp_path}/5/part-00[0-3].tar", location, heldout_urls=urls.replace("{000..004}", "004"))
    assert (len(split.train), len(split.heldout)) == (40, 10)
    with pytest.raises(UsageError, match=r"part-004.tar is in urls and in heldout_urls"):
        load(urls, location, heldout_urls=f"{tmp_path}/5/part-004.tar")


@pytest.mark.parametrize(
    "label, classes",
    [("json.meta.kind", ("cat", "dog")), ("none", ()), ("cls", ("0", "1", "2")), ("json.text", ("a",))],
)
def test_classes_are_read_from_what_is_named(
    label: str, classes: tuple[str, ...], tmp_path: Path, location: DataLocation
) -> None:
    assert load(shards(tmp_path), location, label=label).info.classes == classes


def test_numbers_are_classes_in_their_order(tmp_path: Path, location: DataLocation) -> None:
    numbers = ["10", "9", "009", "0"] * 3
    files = [pair for at, text in enumerate(numbers) for pair in ((f"{at}.png", png(at)), (f"{at}.cls", text.encode()))]
    data = load(str(write(tmp_path / "a.tar", files)), location)
    assert data.info.classes == ("0", "9", "10")
    assert sum(data.info.class_counts) == len(data.train)
    assert everything(data)[decoded(png(2))] == 1


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_any_form_of_tar_and_of_names(form: int, tmp_path: Path, location: DataLocation) -> None:
    long = "folder/" * 12 + "name"
    names = ["./a.PNG", "b/ä 1.png", f"{long}.png", "c.d.png", "__meta__/x.png", "d.txt", "e.png"]
    files = [(name, png(number) if "png" in name.lower() else b"text") for number, name in enumerate(names)]
    found = everything(load(str(write(tmp_path / "a.tar", files, form=form)), location))
    assert found == {decoded(png(number)): None for number in (0, 1, 2, 3, 6)}


def test_which_image_is_said(tmp_path: Path, location: DataLocation) -> None:
    files = [(f"{at}.{ending}", png(at + shift)) for at in range(4) for shift, ending in ((0, "png"), (9, "mask.png"))]
    path = str(write(tmp_path / "a.tar", files))
    assert decoded(png(0)) in everything(load(path, location))  # an ending of one part goes before
    assert decoded(png(9)) in everything(load(path, location, image="mask.png"))
    write(tmp_path / "b.tar", [("0.png", png(0)), ("0.jpg", png(1))])
    with pytest.raises(UsageError, match=r"b.tar: 0 has several images: jpg, png. Say which: image=jpg"):
        load(f"{tmp_path}/b.tar", location)
    with pytest.raises(DataError, match=r"no samples with an image. Look into one"):
        load(path, location, image="webp")


BAD: dict[str, tuple[type[Exception], str]] = {
    "truncated": (DataError, "a.tar is damaged: unexpected end of data"),
    "header": (DataError, "a.tar is damaged: no header of a file at byte 1,024"),
    "compressed": (UsageError, "a.tar is compressed"),
    "empty": (DataError, "a.tar is damaged: empty file"),
    "no tar": (DataError, "a.tar is damaged"),
    "missing": (UsageError, "a.tar cannot be read: No such file"),
    "folder": (UsageError, r"a.tar is a folder. Give the shards in it: .*a.tar/\*.tar"),
    "class": (DataError, "a.tar: 1: its cls holds '', which is no class"),
    "classes": (DataError, "a.tar: 1 has no class, unlike others before it"),
    "twice": (DataError, "a.tar holds 0.png twice in one sample"),
    "image": (DataError, r"a.tar: 1 \(not an image"),
    "size": (UsageError, "images have different sizes: .*image_size=8"),
    "one": (DataError, "holds only one image"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_used_is_named(kind: str, tmp_path: Path, location: DataLocation) -> None:
    path = tmp_path / "a.tar"
    good = [("0.png", png(0)), ("1.png", png(1))]
    files = {
        "class": [*good[:1], ("0.cls", b"1"), *good[1:], ("1.cls", b"")],
        "classes": [*good[:1], ("0.cls", b"1"), *good[1:]],
        "twice": [*good[:1], *good],
        "image": [*good[:1], ("1.png", b"no image")],
        "size": [*good[:1], ("1.png", png(1, size=9))],
        "one": good[:1],
    }.get(kind, good)
    write(path, files, mode="w:gz" if kind == "compressed" else "w")
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(content[: len(png(0)) + 300])
    elif kind == "header":
        content[1024:1030] = b"damage"
        path.write_bytes(content)
    elif kind in ("empty", "no tar"):
        path.write_bytes(b"" if kind == "empty" else b"x" * 5000)
    elif kind in ("missing", "folder"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
    error, message = BAD[kind]
    with pytest.raises(error, match=message):
        load(str(path), location)


@pytest.mark.parametrize(
    "urls, message",
    [
        ("https://a.b/train-{000..001}.tar", "is no file"),
        ("pipe:cat a.tar", "is no file"),
        ("a*.tar", "nothing matches .*/a\\*.tar"),
        ("a-{000..1.tar", "cannot be read|braces"),
    ],
)
def test_addresses_that_are_no_files_are_refused(urls: str, message: str, location: DataLocation) -> None:
    with pytest.raises(UsageError, match=message):
        load(urls, location)


def test_without_the_package_the_message_says_how_to_install_it(
    tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    for name in [name for name in sys.modules if name.startswith("webdataset.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UsageError, match=r"needs .*webdataset.*pip install 'debiasctl\[webdataset\]'"):
        load(shards(tmp_path), location)


def test_a_shard_is_indexed_once_as_it_is(tmp_path: Path, location: DataLocation) -> None:
    urls = shards(tmp_path, 2)
    first = load(urls, location, identify="files")
    indexes = {path: path.stat().st_mtime_ns for path in (location.cache_dir / "datasets" / "shards").iterdir()}
    assert load(urls, location, identify="files").content_hash == first.content_hash
    assert indexes == {path: path.stat().st_mtime_ns for path in indexes}
    next(iter(indexes)).write_bytes(b"damaged")  # is made again
    assert load(urls, location, identify="files").content_hash == first.content_hash
    write(tmp_path / "part-001.tar", sample(77))
    with pytest.raises(DataError, match=r"part-001.tar has changed while it was in use"):
        everything(first)
    assert load(urls, location, identify="files").content_hash != first.content_hash
    copy = tmp_path / "copy"
    shards(copy, 2)
    for path in copy.iterdir():
        os.utime(path, ns=(5, 5))
    assert load(f"{copy}/*.tar", location).content_hash == load(f"{copy}/part-{{000..001}}.tar", location).content_hash


def test_headers_are_read_once(tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(byte_images, "read_header", lambda stream: seen.append(stream) or read_header(stream))
    dataset = create("datasets", PluginRef("webdataset", {"urls": shards(tmp_path), "identify": "files"}))
    info = dataset.info(location)
    dataset.recommended(location)
    assert dataset.load(location).info == info
    assert len(seen) == 30


def test_two_processes_read_their_parts_alone_and_all_of_an_epoch_once(
    tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after 4 steps and resumed, they go on where they were: what is read depends on the step alone."""
    data = load(shards(tmp_path, 4, per=16), location, identify="files", label="none")
    size, batch = len(data.train), 8
    seen: dict[int, list[bytes]] = {0: [], 1: []}

    def read(process: int, steps: range) -> None:
        with BatchSource(
            data.train, seed=1, batch_size=batch, horizontal_flip=False, conditional=False,
            device=torch.device("cpu"), process_index=process, num_processes=2,
        ) as source:  # fmt: skip
            for step in steps:
                pixels = ((source(step).x0 + 1) * 127.5).round().to(torch.uint8)
                seen[process] += [image.numpy().tobytes() for image in pixels]

    end = -(-size // batch)
    for process in (0, 1):
        read(process, range(4))
        read(process, range(4, end))
    parts = [seen[process][at : at + batch // 2] for at in range(0, len(seen[0]), batch // 2) for process in (0, 1)]
    drawn = [image for part in parts for image in part][:size]  # the rest begins the next epoch
    assert len(set(drawn)) == size == len(drawn)
    assert set(drawn) == {image.numpy().tobytes() for image in data.train.images(torch.arange(size))}


def test_a_check_names_samples(tmp_path: Path, location: DataLocation) -> None:
    files = [("0.png", png(0)), ("1.png", png(0)), ("2.png", b"no image"), ("3.png", png(3, mode="L")), ("4.png", b"")]
    dataset = create("datasets", PluginRef("webdataset", {"urls": str(write(tmp_path / "a.tar", files))}))
    done = []
    found = dataset.problems(location, progress=lambda *numbers: done.append(numbers))
    assert {(one.file, one.kind, one.severity) for one in found} == {
        ("a.tar: 1", "duplicate", "warning"),
        ("a.tar: 2", "unreadable", "error"),
        ("a.tar: 3", "colour", "warning"),
        ("a.tar: 4", "empty", "error"),
    }
    assert done[-1] == (5, 5)


def test_images_of_one_name_are_all_checked(tmp_path: Path, location: DataLocation) -> None:
    """Shards of one name in two folders, and a key that comes again."""
    write(tmp_path / "a/x.tar", [("0.png", b"no image"), ("1.png", png(1)), ("0.png", png(2))])
    write(tmp_path / "b/x.tar", [("0.png", png(3)), ("1.png", png(4))])
    dataset = create("datasets", PluginRef("webdataset", {"urls": f"{tmp_path}/*/x.tar"}))
    assert [(one.file, one.kind) for one in dataset.problems(location, progress=lambda *_: None)] == [
        ("a/x.tar: 0", "unreadable")
    ]
    assert dataset.stored_sizes(location) == {(8, 8): 4}


def test_a_shard_with_two_names_is_one(tmp_path: Path, location: DataLocation) -> None:
    shards(tmp_path, 2)
    (tmp_path / "part-00x.tar").symlink_to("part-000.tar")
    os.link(tmp_path / "part-001.tar", tmp_path / "hard.tar")
    for urls in ("*.tar", f"part-000.tar::{tmp_path}/part-001.tar::{tmp_path}/../{tmp_path.name}/part-000.tar"):
        data = load(f"{tmp_path}/{urls}", location)
        assert len(data.train) + len(data.heldout) == 20
    with pytest.raises(UsageError, match=r"part-00x.tar is in urls and in heldout_urls"):
        load(f"{tmp_path}/part-000.tar", location, heldout_urls=f"{tmp_path}/part-00x.tar")


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_a_shard_is_refused(kind: bytes, tmp_path: Path, location: DataLocation) -> None:
    with tarfile.open(write(tmp_path / "a.tar", [*sample(0), *sample(1)]), "a") as archive:
        info = tarfile.TarInfo("2.png")
        info.type, info.linkname = kind, "00000.png"
        archive.addfile(info)
    with pytest.raises(DataError, match=r"a.tar holds '2.png' as a link, which is not followed. Pack it again"):
        load(f"{tmp_path}/a.tar", location)


def test_samples_without_an_image_are_noted(
    tmp_path: Path, location: DataLocation, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.tar", [*sample(0), *sample(3), ("x.cls", b"1"), ("y.txt", b"y")])
    assert len(load(str(path), location).train) == 1
    assert "a.tar: samples without an image, which are left out: 2" in caplog.text


MOVED = {
    "braces": ("/a/b/{00..42}.tar", None, "/a/b", "/n/{00..42}.tar"),
    "in folders": ("/a/b-{0..2}/*.tar", None, "/a", "/n/b-{0..2}/*.tar"),
    "several": ("/a/b/1.tar::/a/c/2.tar", "/a/d/3.tar", "/a", "/n/b/1.tar::/n/c/2.tar"),
}


@pytest.mark.parametrize("urls, heldout, bound, expected", MOVED.values(), ids=MOVED)
def test_shards_that_have_moved_are_found_in_their_new_folder(
    urls: str, heldout: str | None, bound: str, expected: str, tmp_path: Path
) -> None:
    options = {"urls": urls, "heldout_urls": heldout}
    spec = RunSpec.model_validate({"data": {"dataset": {"name": "webdataset", "options": options}}})
    assert bound_path(spec) == Path(bound)
    moved = moved_to(spec, tmp_path).data.dataset.options
    assert moved["urls"] == expected.replace("/n", str(tmp_path))
    assert moved["heldout_urls"] == (None if heldout is None else f"{tmp_path}/d/3.tar")
