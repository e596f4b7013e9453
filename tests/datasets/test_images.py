import numpy as np
import pytest
import torch
from PIL import Image
from tiny import LOCATION, OPTIONS, error_of

from debiasctl.api import Dataset
from debiasctl.datasets.images import Images
from debiasctl.errors import DataError, UsageError


def images(path):
    return Images(Images.Options(path=str(path)))


@pytest.fixture
def folder(tmp_path):
    """Two grey images and one that is stored as RGB, in folders that mean nothing here."""
    pixels = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8).numpy()
    root = tmp_path / "images"
    for name, image in zip(("a.png", "train/b.png", "val/c.png"), pixels, strict=True):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).convert("RGB" if name == "a.png" else "L").save(root / name)
    return root, pixels


def test_every_file_is_in_the_one_split(folder):
    root, pixels = folder
    assert isinstance(images(root), Dataset)
    data = images(root).load(LOCATION)
    assert data.info == images(root).info(LOCATION)
    assert (data.info.channels, data.info.image_size, data.info.classes) == (3, 8, ())
    assert (len(data.train), len(data.heldout), data.info.num_heldout) == (3, 0, 0)
    found = data.train.images(torch.tensor([2, 0, 1]))
    np.testing.assert_array_equal(found.numpy(), np.repeat(pixels[[2, 0, 1], None], 3, axis=1))
    assert data.train.labels(torch.tensor([0])) is None
    (root / "a.png").unlink()
    grey = images(root).load(LOCATION)
    assert grey.info.channels == 1
    np.testing.assert_array_equal(grey.train.images(torch.arange(2))[:, 0].numpy(), pixels[1:])


def test_the_hash_follows_from_names_and_bytes_alone(folder, tmp_path):
    root, pixels = folder
    first = images(root).load(LOCATION).content_hash
    (root / "a.png").touch()
    assert images(root).load(LOCATION).content_hash == first
    root.rename(tmp_path / "elsewhere")
    root = tmp_path / "elsewhere"
    assert images(root).load(LOCATION).content_hash == first
    Image.fromarray(pixels[1]).save(root / "a.png")
    assert images(root).load(LOCATION).content_hash != first


@pytest.mark.parametrize("name", ["images", "arr_0"])
@pytest.mark.parametrize("shape", [(5, 4, 4), (5, 4, 4, 1), (5, 4, 4, 3)], ids=str)
def test_an_npz(tmp_path, name, shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.savez_compressed(tmp_path / "x.npz", **{name: array, "labels": np.zeros(5)})
    data = images(tmp_path / "x.npz").load(LOCATION)
    assert data.info.channels == (shape[3] if len(shape) == 4 else 1)
    found = data.train.images(torch.tensor([1, 3])).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(found.reshape(2, *shape[1:]), array[[1, 3]])


def test_a_file_that_vanishes_or_breaks_is_named(folder):
    root, _ = folder
    data = images(root).load(LOCATION)
    (root / "train" / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"train/b\.png"):
        data.train.images(torch.arange(3))


def test_they_are_not_for_training(folder):
    root, _ = folder
    assert "has no held-out images" in error_of("train", f"image-files:path={root}", *OPTIONS, "--steps", "1", code=1)


@pytest.mark.parametrize("name", ["nothing", "nothing.npz", "nothing.zip"])
def test_what_is_not_there(tmp_path, name):
    with pytest.raises(UsageError, match="does not exist"):
        images(tmp_path / name).load(LOCATION)
