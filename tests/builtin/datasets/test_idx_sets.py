import gzip
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

from debiasctl.api import DataLocation, Dataset, hash_splits
from debiasctl.builtin.datasets._support.idx import read_idx, read_idx_shape
from debiasctl.builtin.datasets.fashion_mnist import FashionMNIST
from debiasctl.builtin.datasets.mnist import MNIST
from debiasctl.errors import DataError, DebiasctlError
from debiasctl.registry.entry_points import create

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
FIRST = {"mnist": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4], "fashion-mnist": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]}
SETS = {"mnist": MNIST, "fashion-mnist": FashionMNIST}


@pytest.fixture(autouse=True)
def no_system_files(monkeypatch):
    monkeypatch.setattr(FashionMNIST, "system_folders", ())


def idx_bytes(array):
    array = np.asarray(array, dtype=np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_set(folder, name, *, packed=True, size=28, num_train=12, num_heldout=11):
    """A tiny set; returns its training images and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    made = {}
    for part, count in (("train", num_train), ("t10k", num_heldout)):
        images = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
        labels = np.array([*FIRST[name], 0, 1, 2, 3][:count])
        made[part] = images, labels
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx_bytes(array)
            path = folder / f"{part}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(data) if packed else data)
    return made


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "name, place",
    [
        ("mnist", "."),
        ("mnist", "raw"),
        ("mnist", "MNIST"),
        ("mnist", "MNIST/raw"),
        ("mnist", "mnist"),
        ("fashion-mnist", "FashionMNIST/raw"),
        ("fashion-mnist", "fashion-mnist"),
    ],
)
def test_files_are_read_in_place(name, place, packed, tmp_path):
    made = write_set(tmp_path / "data" / place, name, packed=packed)
    location = DataLocation(tmp_path / "data", tmp_path / "cache")
    dataset = create("datasets", name)
    assert isinstance(dataset, Dataset)
    data = dataset.load(location)
    assert data.info == dataset.info(location)
    assert (data.info.image_size, data.info.channels, data.info.num_train, data.info.num_heldout) == (28, 1, 12, 11)
    for split, part in ((data.train, "train"), (data.heldout, "t10k")):
        images, labels = made[part]
        indices = torch.tensor([3, 0, 3])
        assert split.images(indices).numpy().tolist() == images[[3, 0, 3], None].tolist()
        assert split.labels(indices).tolist() == labels[[3, 0, 3]].tolist()
        assert split.labels(indices).dtype == torch.int64
    assert not (tmp_path / "cache").exists()


def test_the_users_folder_comes_before_the_systems(tmp_path, monkeypatch):
    write_set(tmp_path / "data", "fashion-mnist", num_train=12)
    write_set(tmp_path / "system", "fashion-mnist", num_train=13)
    monkeypatch.setattr(FashionMNIST, "system_folders", (tmp_path / "system",))
    dataset = create("datasets", "fashion-mnist")
    assert dataset.info(DataLocation(tmp_path / "data", tmp_path / "cache")).num_train == 12
    assert dataset.info(DataLocation(None, tmp_path / "cache")).num_train == 13


def test_hash_follows_the_contents_and_not_the_place(tmp_path):
    write_set(tmp_path / "a", "mnist", packed=True)
    write_set(tmp_path / "b" / "MNIST" / "raw", "mnist", packed=False)
    write_set(tmp_path / "c", "mnist", num_heldout=12)
    hashes = [
        create("datasets", "mnist").load(DataLocation(tmp_path / place, tmp_path / "cache")).content_hash
        for place in "abc"
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_set_of_the_same_file_names_is_not_taken_for_another(tmp_path):
    write_set(tmp_path, "fashion-mnist")
    with pytest.raises(DataError, match="is not MNIST's"):
        create("datasets", "mnist").load(DataLocation(tmp_path, tmp_path / "cache"))


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda packed: packed[: len(packed) // 2], "cannot be read"),
        (lambda packed: gzip.compress(gzip.decompress(packed)[:-1]), "is cut short"),
        (lambda packed: gzip.compress(gzip.decompress(packed) + b"x"), "is too long"),
        (lambda packed: gzip.compress(idx_bytes([1, 2, 3])), "not an idx file of unsigned bytes in 3 dimensions"),
        (lambda packed: gzip.compress(b"\0\0\x0d\3" + gzip.decompress(packed)[4:]), "not an idx file"),
        (lambda packed: b"", "not an idx file"),
        (lambda packed: b"<html>not found</html>", "not an idx file"),
        (lambda packed: gzip.compress(idx_bytes(np.zeros((12, 27, 28)))), "27, 28"),
        (lambda packed: gzip.compress(idx_bytes(np.zeros((9, 28, 28)))), "9 images, but .* 12 labels"),
    ],
)
def test_damaged_files_are_named(damage, message, tmp_path):
    write_set(tmp_path, "mnist")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        create("datasets", "mnist").load(DataLocation(tmp_path, tmp_path / "cache"))
    assert str(path) in str(caught.value)


def test_labels_out_of_range_are_refused(tmp_path):
    write_set(tmp_path, "mnist")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes([10] * 11)))
    with pytest.raises(DataError, match="label 10"):
        create("datasets", "mnist").load(DataLocation(tmp_path, tmp_path / "cache"))


def test_header_is_read_alone(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((3, 4, 5)))[:16]))
    assert read_idx_shape(path, ndim=3) == (3, 4, 5)
    with pytest.raises(DataError, match="3x4x5"):
        read_idx(path, ndim=3)


@pytest.mark.parametrize("name", SETS)
def test_a_download_goes_into_the_cache_and_serves_again(name, tmp_path, monkeypatch):
    calls = []

    def download(root, download):
        calls.append(root)
        write_set(Path(root) / SETS[name].torchvision_name / "raw", name)

    monkeypatch.setattr(f"torchvision.datasets.{SETS[name].torchvision_name}", download)
    (tmp_path / "data").mkdir()
    location = DataLocation(tmp_path / "data", tmp_path / "cache")
    assert create("datasets", name).info(location).num_train == 60_000
    assert not calls
    first = create("datasets", name).load(location)
    second = create("datasets", name).load(location)
    assert len(calls) == 1
    assert first.content_hash == second.content_hash
    assert create("datasets", name).info(location).num_train == 12
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("no route"), TimeoutError("no route")])
def test_a_failed_download_says_which_files_belong_where(error, tmp_path, monkeypatch):
    def download(root, download):
        (Path(root) / "half").write_text("x")
        raise error

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", download)
    data = tmp_path / "data"
    write_set(data, "fashion-mnist")
    (data / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(DataError) as caught:
        create("datasets", "fashion-mnist").load(DataLocation(data, tmp_path / "cache"))
    message = str(caught.value)
    for expected in (
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz",
        "FashionMNIST/raw",
        "`data_dir`",
        "DEBIASCTL_DATA",
        str(data / "FashionMNIST" / "raw"),
        f"{data} holds",
        "no route",
        "Published at: http",
    ):
        assert expected in message
    assert not (tmp_path / "cache" / "datasets" / "fashion-mnist").exists()
    assert not list((tmp_path / "cache" / "datasets").glob("*.tmp"))


def test_a_full_disk_is_not_called_a_failed_download(tmp_path, monkeypatch):
    def download(root, download):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torchvision.datasets.MNIST", download)
    with pytest.raises(DebiasctlError, match="disk is full"):
        create("datasets", "mnist").load(DataLocation(None, tmp_path / "cache"))


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_debians_files(tmp_path, monkeypatch):
    monkeypatch.setattr(FashionMNIST, "system_folders", (DEBIAN,))
    dataset = create("datasets", "fashion-mnist")
    location = DataLocation(None, tmp_path / "cache")
    info = dataset.info(location)
    assert (info.num_train, info.num_heldout) == (60_000, 10_000)
    data = dataset.load(location)
    labels = data.train.labels(torch.arange(60_000))
    assert labels.bincount().tolist() == [6_000] * 10
    # trousers are narrow, bags are wide: labels belong to their images
    images = data.train.images(torch.arange(2_000))[:, 0].double()
    edges = images[:, :, :3].mean(dim=(1, 2))
    assert edges[labels[:2_000] == 1].mean() < edges[labels[:2_000] == 8].mean() / 3
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", SETS)
def test_another_size_and_colour_is_other_data(name, tmp_path):
    images, _ = write_set(tmp_path, name)["train"]
    location = DataLocation(tmp_path, tmp_path / "cache")
    plain = create("datasets", name).load(location)
    assert plain.content_hash == hash_splits(
        {"name": name, "classes": SETS[name].classes}, [plain.train, plain.heldout]
    )
    dataset = create("datasets", f"{name}:image_size=32,mode=rgb")
    data = dataset.load(location)
    assert data.info == dataset.info(location)
    expected = Image.fromarray(images[0]).convert("RGB").resize((32, 32), Image.Resampling.LANCZOS)
    assert data.train.images(torch.tensor([0]))[0].permute(1, 2, 0).tolist() == np.asarray(expected).tolist()
    assert data.content_hash != plain.content_hash
