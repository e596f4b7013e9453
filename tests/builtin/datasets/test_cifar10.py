import hashlib
import pickle
import re
import shutil
import tarfile
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10 as Source

from debiasctl.api import DataLocation, Dataset, DatasetInfo, hash_splits
from debiasctl.builtin.datasets.cifar10 import CIFAR10
from debiasctl.errors import DataError
from debiasctl.registry.entry_points import create

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
BATCHES = "cifar-10-batches-py"


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder with a tiny set in torchvision's layout, whose checksums torchvision takes for the published ones."""
    folder = tmp_path / "source" / BATCHES
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)

    def write(name, content):
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return hashlib.md5(data).hexdigest()

    def batch(name, start):
        labels = [(start + i) % 10 for i in range(4)]
        return [name, write(name, {"data": rng.integers(0, 256, (4, 3072), dtype=np.uint8), "labels": labels})]

    monkeypatch.setattr(Source, "train_list", [batch(f"data_batch_{i}", i) for i in range(1, 6)])
    monkeypatch.setattr(Source, "test_list", [batch("test_batch", 7)])
    md5 = write("batches.meta", {"label_names": CLASSES})
    monkeypatch.setattr(Source, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5})

    def no_network(self):
        raise URLError("no route to host")

    monkeypatch.setattr(Source, "download", no_network)
    monkeypatch.setattr(CIFAR10, "info", lambda self, location: DatasetInfo(32, 3, tuple(CLASSES), 20, 4))
    return folder.parent


def load(data_dir, tmp_path):
    return create("datasets", "cifar10").load(DataLocation(data_dir, tmp_path / "cache"))


def test_info_and_the_papers_setup(tmp_path):
    dataset = create("datasets", "cifar10")
    assert isinstance(dataset, Dataset)
    info = dataset.info(DataLocation(None, tmp_path))
    assert (info.image_size, info.channels, info.num_train, info.num_heldout) == (32, 3, 50_000, 10_000)
    assert list(info.classes) == CLASSES
    settings = dataset.recommended(DataLocation(None, tmp_path))
    assert settings["optimizer"]["lr"] == 2e-5
    assert settings["training"] | {"steps": 500_000, "batch_size": 32} == settings["training"]


@pytest.mark.parametrize("place", [".", BATCHES, "cifar10"])
def test_batches_are_read_in_place(place, source, tmp_path):
    data_dir = source
    if place == BATCHES:
        data_dir = source / BATCHES
    elif place == "cifar10":
        data_dir = tmp_path / "data"
        shutil.copytree(source, data_dir / "cifar10")
    data = load(data_dir, tmp_path)
    assert (len(data.train), len(data.heldout)) == (20, 4) == (data.info.num_train, data.info.num_heldout)
    batch = pickle.loads((source / BATCHES / "data_batch_2").read_bytes())
    images = data.train.images(torch.arange(4, 8))
    assert images.shape == (4, 3, 32, 32)
    assert images.flatten(1).numpy().tolist() == batch["data"].tolist()
    assert data.train.labels(torch.arange(4, 8)).tolist() == batch["labels"]
    assert data.heldout.labels(torch.arange(4)).tolist() == [7, 8, 9, 0]
    assert data.content_hash == hash_splits({"name": "cifar10", "classes": CLASSES}, [data.train, data.heldout])
    assert not (tmp_path / "cache").exists()


def test_another_size_is_other_data(source, tmp_path, monkeypatch):
    data = load(source, tmp_path)
    monkeypatch.setattr(CIFAR10, "info", lambda self, location: DatasetInfo(16, 1, tuple(CLASSES), 20, 4))
    small = create("datasets", "cifar10:image_size=16,mode=grey").load(DataLocation(source, tmp_path / "cache"))
    image = data.train.images(torch.tensor([3]))[0].permute(1, 2, 0).numpy()
    expected = Image.fromarray(image).convert("L").resize((16, 16), Image.Resampling.LANCZOS)
    assert small.train.images(torch.tensor([3]))[0, 0].tolist() == np.asarray(expected).tolist()
    assert small.content_hash != data.content_hash


def test_an_archive_is_unpacked_into_the_cache(source, tmp_path, monkeypatch):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    archive = data_dir / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source / BATCHES, arcname=BATCHES)
    with pytest.raises(DataError, match="MD5"):
        load(data_dir, tmp_path)
    monkeypatch.setattr(Source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    data = load(data_dir, tmp_path)
    assert data.content_hash == load(source, tmp_path).content_hash
    assert list(data_dir.iterdir()) == [archive]
    archive.unlink()
    assert load(None, tmp_path).content_hash == data.content_hash  # the cache serves


def test_a_download_goes_into_the_cache(source, tmp_path, monkeypatch):
    monkeypatch.setattr(Source, "download", lambda self: shutil.copytree(source, self.root, dirs_exist_ok=True))
    data = load(None, tmp_path)
    assert len(data.train) == 20
    assert (tmp_path / "cache" / "datasets" / "cifar10" / BATCHES / "test_batch").exists()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"data_batch_3 is not as published \(MD5"),
        (lambda path: path.unlink(), "lacks data_batch_3"),
    ],
)
def test_damaged_batches_are_named_and_never_unpickled(damage, message, source, tmp_path):
    damage(source / BATCHES / "data_batch_3")
    with pytest.raises(DataError, match=message):
        load(source, tmp_path)


def test_a_failed_download_says_which_files_belong_where(source, tmp_path):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with pytest.raises(DataError) as caught:
        load(data_dir, tmp_path)
    message = str(caught.value)
    for expected in (
        "data_batch_5",
        "cifar-10-python.tar.gz",
        "`data_dir`",
        "DEBIASCTL_DATA",
        "no route",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        str(data_dir),
    ):
        assert expected in message
    assert "debiasctl train" not in message
    assert not (tmp_path / "cache" / "datasets" / "cifar10").exists()


def test_a_folder_of_images_is_pointed_to_and_not_used(source, tmp_path):
    image = tmp_path / "my data" / "train" / "cat" / "1.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(image)
    with pytest.raises(DataError, match=re.escape(f"debiasctl train '{tmp_path / 'my data'}'")):
        load(tmp_path / "my data", tmp_path)
