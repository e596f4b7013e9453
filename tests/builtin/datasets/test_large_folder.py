"""The memory that a folder or a zip of many images takes does not grow with their number, but for their names.

While a zip is opened, its directory is held as `zipfile` reads it.
"""

import gc
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from debiasctl.api import DataLocation, LoadedDataset
from debiasctl.builtin.datasets._support import decoded_images, image_reading
from debiasctl.builtin.datasets._support.image_files import ImageFile
from debiasctl.builtin.datasets._support.image_source import open_source
from debiasctl.builtin.datasets._support.image_table import ImageFiles, without
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef

BYTES_PER_IMAGE = 200  # at most, of names and what else is known of a file; pixels come on top, as a file's
BYTES_KEPT = 100
BYTES_OPENING = {"folder": 0, "images.zip": 700}  # per image, more, at most, while it is opened


def pictures(count: int) -> list[bytes]:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        stream = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(stream, "png")
        found.append(stream.getvalue())
    return found


def generate(path: Path, size: int) -> Path:
    """A folder, or where the name says so a zip, of `size` images of 16x16 in ten classes."""
    shown = pictures(16)
    files = ((f"class{number % 10}/{number:08}.png", shown[number % 16]) for number in range(size))
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files:
                archive.writestr(f"images/{name}", content)
        return path
    for number in range(10):
        (path / f"class{number}").mkdir(parents=True)
    for name, content in files:
        (path / name).write_bytes(content)
    return path


def load(path: Path, cache: Path) -> LoadedDataset:
    folder = create("datasets", PluginRef("folder", {"path": str(path)}))
    location = DataLocation(None, cache)
    folder.info(location)
    data: LoadedDataset = folder.load(location)
    return data


SIZES = (500, 5000)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for size in SIZES:
        generate(root / f"{size}folder", size)
        generate(root / f"{size}images.zip", size)
    return root


def growth(use: Callable[[int], object]) -> tuple[float, float]:
    """Bytes per image by which the peak, and what is kept in the end, are larger for more images."""
    use(SIZES[0])  # what is imported and made once
    found = []
    for size in SIZES:
        gc.collect()
        tracemalloc.start()
        kept = use(size)
        gc.collect()
        found.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        del kept
    kept_bytes, peaks = zip(*found, strict=True)
    num = SIZES[1] - SIZES[0]
    return (peaks[1] - peaks[0]) / num, (kept_bytes[1] - kept_bytes[0]) / num


@pytest.mark.parametrize("name, held", [("folder", True), ("folder", False), ("images.zip", False)])
def test_memory_grows_by_little_more_than_names(
    name: str, held: bool, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr(decoded_images, "MAX_DECODED_BYTES", 0)
    monkeypatch.setattr(image_reading, "num_cores", lambda at_most: 2)
    caches = (tmp_path / str(number) for number in range(3))
    peak, kept = growth(lambda size: load(made / f"{size}{name}", next(caches)))
    assert peak < BYTES_PER_IMAGE + BYTES_OPENING[name]
    assert kept < BYTES_KEPT


@pytest.mark.parametrize("name", ["folder", "images.zip"])
def test_a_source_takes_little_more_than_names(name: str, made: Path) -> None:
    peak, kept = growth(lambda size: open_source(made / f"{size}{name}"))
    assert peak < 150 + BYTES_OPENING[name]
    assert kept < 100


def resident_peak(path: Path, home: Path) -> int:
    """Bytes of memory, but for mapped files, that a training of 20 steps held at most."""
    options = ["--steps", "20", "--batch-size", "8", "--backbone", "dit:hidden_size=16,depth=1,num_heads=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "debiasctl", "train", str(path), *options, "--device", "cpu"],
        env={**os.environ, "DEBIASCTL_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    peak = 0
    while process.poll() is None:
        found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
        peak = max(peak, 1024 * int(found[1]) if found else 0)
        time.sleep(0.01)
    assert process.returncode == 0
    return peak


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["folder", "images.zip"])
def test_200_000_images_train_in_the_memory_of_2_000(name: str, tmp_path: Path) -> None:
    peaks = []
    for size in (2000, 200_000):
        path = generate(tmp_path / f"{size}{name}", size)
        peaks.append(resident_peak(path, tmp_path / f"home{size}"))
    assert peaks[1] < 1.1 * peaks[0] + 200_000 * BYTES_OPENING[name]


# ---------------------------------------------------------------- what the compact forms must not change


def test_the_content_hash_is_of_pixels_labels_and_what_was_left_out(tmp_path: Path) -> None:
    root = generate(tmp_path / "images", 40)
    (root / "class3" / "broken.png").write_bytes(b"no image")
    folder = create("datasets", PluginRef("folder", {"path": str(root), "skip_unreadable": "true"}))
    data = folder.load(DataLocation(None, tmp_path / "cache"))
    digest, labels = hashlib.sha256(), []
    for split in (data.train, data.heldout):
        digest.update(split.images(torch.arange(len(split))).numpy().tobytes())
        labels += split.labels(torch.arange(len(split))).tolist()
    classes = [f"class{number}" for number in range(10)]
    rest = [classes, labels, 16, 3, len(data.train), len(data.heldout), ["class3/broken.png"]]
    digest.update(json.dumps(rest).encode())
    assert data.content_hash == digest.hexdigest()


@pytest.mark.parametrize("part", [1, 7])
def test_labels_are_written_in_parts(part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = generate(tmp_path / "images", 40)
    whole = load(root, tmp_path / "cache").content_hash
    monkeypatch.setattr(decoded_images, "_LABELS", part)
    assert load(root, tmp_path / "other").content_hash == whole


NAMES = ["b.png", "a/\ue000.png", "a/\U0001f600.png", "a/\udcff.png", "ab.png", "a.png", "ä" * 60 + ".png", "a/b.png"]


@pytest.mark.parametrize("part", [1, 3, 512])
def test_a_table_of_files_is_their_sorted_list(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("debiasctl.builtin.datasets._support.image_table._PART", part)
    files = [ImageFile(name, (number, 2**64 - 1 - number)) for number, name in enumerate(NAMES)]
    table, expected = ImageFiles.of(iter(files)), sorted(files, key=lambda file: file.name)
    assert list(table) == expected
    assert [table[number] for number in range(-8, 8)] == expected * 2
    assert list(table[2:7:2]) == expected[2:7:2]
    assert list(table[1:].choose(np.array([0, 3]))[1:]) == [expected[4]]
    assert list(table.choose(np.arange(8) % 2 == 1)) == expected[1::2]
    assert list(without(table, ("a.png", "a/\udcff.png"))) == [
        file for file in expected if file.name not in ("a.png", "a/\udcff.png")
    ]
    assert without(table, ()) is table
    assert list(ImageFiles.of([])) == []
    with pytest.raises(IndexError):
        table[8]


def test_times_and_sizes_of_any_number_are_kept_apart() -> None:
    stamps = [(0, -5), (0, 2**64 + 7), (0, 5)]
    table = ImageFiles.of(ImageFile(f"{number}.png", stamp) for number, stamp in enumerate(stamps))
    assert len({file.stamp for file in table}) == 3


def test_a_zip_is_read_under_the_names_that_stand_in_it(tmp_path: Path) -> None:
    path, shown = tmp_path / "images.zip", pictures(4)
    names = ["root/ä/2.png", "root/./3.png", "root/b/1.png", "root/b/0.png"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in zip(names, shown, strict=True):
            archive.writestr(name, content, compress_type=zipfile.ZIP_STORED if "b" in name else None)
    source = open_source(path)
    assert [file.name for file in source.files] == ["3.png", "b/0.png", "b/1.png", "ä/2.png"]  # as in a folder
    for name, content in zip(names, shown, strict=True):
        with source.open(name.removeprefix("root/").removeprefix("./")) as stream:
            assert stream.read() == content


def test_a_zip_with_names_cut_short_by_a_zero_is_read(tmp_path: Path) -> None:
    path, (content,) = tmp_path / "images.zip", pictures(1)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.pngX.png", content)
    path.write_bytes(path.read_bytes().replace(b"a.pngX.png", b"a.png\0.png"))
    source = open_source(path)
    assert [file.name for file in source.files] == ["a.png"]
    assert source.open("a.png").read() == content
