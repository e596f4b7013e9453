"""Sets that are too large to be read before a training: known by their files until all images have been read."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from debiasctl.api import ArraySplit, DataError, DataLocation, LoadedDataset, UsageError
from debiasctl.builtin.datasets._support import decoded_images, folder_format, late_decoding
from debiasctl.builtin.datasets._support.image_source import open_source
from debiasctl.registry import create
from debiasctl.registry.refs import PluginRef

LATE = {"identify": "files"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make(tmp_path / "data", [f"{name}/{number:02}.png" for name in ("cat", "dog") for number in range(12)])


def make(root: Path, names: list[str], *, mode: str = "RGB", size: int = 8) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).convert(mode).save(path)
    return root


def load(root: Path, location: DataLocation, **options: object) -> LoadedDataset:
    return create("datasets", PluginRef("folder", {"path": str(root), **options})).load(location)


def images(data: LoadedDataset) -> list[bytes]:
    """All images, a few at a time and not in order."""
    found = []
    for split in (data.train, data.heldout):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
        rows = torch.cat([split.images(some) for some in order.split(5)])
        found += [row.numpy().tobytes() for row in rows[order.argsort()]]
    return found


def without_times(root: Path, target: Path) -> Path:
    shutil.copytree(root, target)
    for path in target.rglob("*.png"):
        os.utime(path, ns=(0, 0))
    return target


@pytest.mark.parametrize("stored", [True, False])
def test_all_read_they_are_known_by_the_content_that_is_read_at_once(
    stored: bool, root: Path, location: DataLocation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = load(root, DataLocation(None, tmp_path / "other"), identify="content")
    if not stored:
        monkeypatch.setattr(decoded_images, "MAX_DECODED_BYTES", 0)
    late = load(root, location, **LATE)
    assert late.info == at_once.info
    assert late.content_hash == late.files.hash
    assert late.files.content_hash() is None
    assert images(late) == images(at_once)
    content = late.files.content_hash()
    again = load(root, location, **LATE)
    assert again.content_hash == content
    assert again.files.hash == late.files.hash
    assert images(again) == images(late) == images(at_once)
    assert isinstance(again.train, ArraySplit) is stored
    assert (content == at_once.content_hash) is stored
    assert at_once.content_hash in late.files.read_all()  # by which earlier versions know it


def test_many_files_are_known_by_them_as_large_ones_are(
    root: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = load(root, location).content_hash
    monkeypatch.setattr(late_decoding, "MANY", 23)
    monkeypatch.setattr("debiasctl.builtin.datasets.folder.MANY", 23)
    assert load(root, location).content_hash == content  # they were decoded before
    shutil.rmtree(location.cache_dir)
    assert load(root, location).content_hash.startswith("files:")
    assert load(root, location, identify="content").content_hash == content


def test_many_files_are_listed_once(root: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = []
    monkeypatch.setattr(late_decoding, "open_source", lambda path: listings.append(path) or open_source(path))
    for num in (24, 23):
        monkeypatch.setattr(late_decoding, "MANY", num)
        found = [load(root, location, **LATE).content_hash for _ in range(2)]
        assert found[0] == found[1]
    assert len(listings) == 3
    (root / "cat" / "03.png").rename(root / "cat" / "3.png")
    assert load(root, location, **LATE).content_hash != found[0]


def test_the_hash_of_files_is_of_names_sizes_and_times(root: Path, location: DataLocation, tmp_path: Path) -> None:
    found = load(root, location, **LATE).content_hash
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)  # with the times
    assert load(copy, location, **LATE).content_hash == found
    assert load(copy, location, **LATE, heldout=0.4).content_hash != found
    os.utime(copy / "cat" / "03.png", ns=(0, 1))
    touched = load(copy, location, **LATE).content_hash
    (copy / "cat" / "03.png").rename(copy / "cat" / "3.png")
    assert len({found, touched, load(copy, location, **LATE).content_hash}) == 3


def test_a_file_that_changes_while_it_is_used_is_noticed(root: Path, location: DataLocation) -> None:
    data = load(root, location, **LATE)
    make(root, ["cat/03.png"])
    with pytest.raises(DataError, match=r"cat/03.png has changed while it was in use"):
        data.files.read_all()


def test_pixels_that_change_though_size_and_time_do_not_are_noticed(
    root: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_images, "MAX_DECODED_BYTES", 0)
    path = root / "cat" / "03.png"
    data, status, other = load(root, location, **LATE), path.stat(), (root / "cat" / "04.png").read_bytes()
    images(data)
    path.write_bytes(other[: status.st_size].ljust(status.st_size, b"\0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DataError, match=r"cat/03.png has other pixels than when it was first read"):
        images(data)


def test_an_image_that_was_damaged_in_the_store_is_decoded_again(root: Path, location: DataLocation) -> None:
    data = load(root, location, **LATE)
    expected = images(data)
    (stored,) = location.cache_dir.rglob("images.npy")
    content = bytearray(stored.read_bytes())
    content[-5] ^= 1
    stored.write_bytes(content)
    assert data.files.content_hash() is None  # it counts as not read
    assert images(data) == expected
    assert data.files.content_hash() is not None


def test_the_records_of_another_process_are_not_taken_for_ones_own(root: Path, location: DataLocation) -> None:
    """It has removed those of this one, and begun its own."""
    first = load(root, location, **LATE)
    (place,) = location.cache_dir.rglob("*.read")
    shutil.rmtree(place)
    second = load(root, location, **LATE)
    expected = images(first)
    assert first.files.content_hash() is None
    assert load(root, location, **LATE).content_hash.startswith("files:")
    assert images(second) == expected
    content = second.files.content_hash()
    assert content == load(root, location, identify="content").content_hash
    assert first.files.content_hash() == content
    assert images(load(root, location, **LATE)) == expected


UNLIKE = {
    "size": ({"size": 9}, "it is 9x9, unlike others, which are 8x8.*image_size=8"),
    "mode": ({"mode": "RGB"}, "it is in colour"),
}


@pytest.mark.parametrize("change, told", UNLIKE.values(), ids=UNLIKE)
def test_an_image_unlike_those_that_were_looked_at_is_refused(
    change: dict[str, object], told: str, tmp_path: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(tmp_path / "data", [f"{number:03}.png" for number in range(40)], mode="L")
    make(root, ["007.png"], **{"mode": "L"} | change)
    monkeypatch.setattr("debiasctl.builtin.datasets.folder.LOOKED_AT", 2)
    data = load(root, location, **LATE)
    with pytest.raises(DataError, match=f"007.png .*{told}"):
        data.files.read_all()
    stated = load(root, location, **LATE, image_size=8, mode="grey")
    assert len(stated.files.read_all()) == 1


def test_unreadable_files_can_only_be_left_out_if_all_are_read(root: Path, location: DataLocation) -> None:
    with pytest.raises(UsageError, match="skip_unreadable"):
        load(root, location, **LATE, skip_unreadable=True)
    (root / "cat" / "03.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cat/03.png \(not an image"):
        load(root, location, **LATE, image_size=8, mode="rgb").files.read_all()


def test_few_headers_are_looked_at(root: Path, location: DataLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    found = folder_format.Formats(grey=False, smallest=8, shapes={(8, 8): ""}, unreadable=[], lost=[], transparent=0)
    monkeypatch.setattr(folder_format, "read_formats", lambda _, *parts: seen.append(sum(map(len, parts))) or found)
    monkeypatch.setattr("debiasctl.builtin.datasets.folder.LOOKED_AT", 3)
    load(root, location, **LATE)
    load(root, location, **LATE, image_size=8, mode="grey")
    assert seen == [5]  # of the images that are trained on, and of those that are held out
