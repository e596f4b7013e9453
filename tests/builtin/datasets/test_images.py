import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import LOCATION, OPTIONS, error_of

from debiasctl.api import Dataset
from debiasctl.builtin.datasets.images import Images
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
    np.savez_compressed(tmp_path / "x.npz", **{name: array, "labels": np.arange(5)})
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
    with pytest.raises(UsageError, match=r"does not exist. Give a folder, a \.zip, \.tar or \.npz of images"):
        images(tmp_path / name).load(LOCATION)


@pytest.mark.parametrize("name", ["one.png", "many.rar", "array.npy"])
def test_another_kind_of_file(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UsageError, match=r"is neither a folder nor a \.zip, \.tar or \.npz of images"):
        images(tmp_path / name).load(LOCATION)


PIXELS = np.zeros((4, 8, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize("name, label_name", [("images", "labels"), ("arr_0", "arr_1"), ("arr_0", "labels")])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int32])
def test_labels_of_an_npz(tmp_path, name, label_name, dtype):
    np.savez(tmp_path / "x.npz", **{name: PIXELS, label_name: np.array([3, 0, 3, 7], dtype=dtype)})
    data = images(tmp_path / "x.npz").load(LOCATION)
    found = data.train.labels(torch.tensor([3, 1]))
    assert (found.dtype, found.tolist()) == (torch.int64, [7, 0])
    assert data.info.classes == ()


def test_an_npz_without_labels(tmp_path):
    np.savez(tmp_path / "x.npz", images=PIXELS, nfe=np.array(5), label=np.zeros(4, dtype=np.int64))
    assert images(tmp_path / "x.npz").load(LOCATION).train.labels(torch.arange(4)) is None


@pytest.mark.parametrize(
    "labels, message",
    [
        (np.zeros(3, dtype=np.int64), r"int64 \[3\]: there are 4 images"),
        (np.eye(4, dtype=np.int64), "one-hot rows are not read"),
        (np.zeros((4, 1), dtype=np.int64), "one-hot rows are not read"),
        (np.array(0), "there are 4 images"),
        (np.zeros(4), r"float64 \[4\]: they must be integers"),
        (np.zeros(4, dtype=bool), "they must be integers"),
        (np.array(["cat"] * 4), "they must be integers"),
        (np.array([0, 1, -1, 2]), "the smallest is -1"),
        (np.array([0, 1, 2**63, 2], dtype=np.uint64), "the largest is 9223372036854775808"),
        (np.array([0, "x", 1, 2], dtype=object), "array of Python objects"),
    ],
    ids=str,
)
def test_labels_that_are_none(tmp_path, labels, message):
    np.savez(tmp_path / "x.npz", arr_0=PIXELS, arr_1=labels)
    with pytest.raises(DataError, match=message) as caught:
        images(tmp_path / "x.npz").load(LOCATION)
    assert "'arr_1'" in str(caught.value)


@pytest.mark.parametrize(
    "array, message",
    [
        (np.linspace(0, 1, 768).reshape(PIXELS.shape).astype(np.float32), "from 0 to 1: multiply by 255"),
        (np.linspace(-1, 1, 768).reshape(PIXELS.shape), "from -1 to 1: add 1, multiply by 127.5"),
        (np.full(PIXELS.shape, 254.5), "from 254.5 to 254.5: round and save as uint8"),
        (PIXELS.astype(np.int64) + 200, "from 200 to 200: round and save as uint8"),
        (PIXELS.astype(np.uint16) + 60_000, "from 60000 to 60000: bring them to 0 … 255"),
        (PIXELS.astype(np.int16) - 5, "from -5 to -5: bring them to 0 … 255"),
        (PIXELS.astype(bool), "are true and false: multiply by 255"),
        (PIXELS.astype(complex), "are not 8-bit numbers"),
        (np.full(PIXELS.shape, np.inf), "NaN or infinity"),
        (PIXELS.transpose(0, 3, 1, 2), "channels come last: transpose"),
        (PIXELS[..., :2], "with 1 or 3 channels, not 2"),
        (np.zeros((4, 8, 8, 4), dtype=np.uint8), "not 4: leave the alpha channel out"),
        (PIXELS[:, :5], "must be square, and these are 8 wide and 5 high"),
        (PIXELS[0], "must be square, and these are 3 wide and 8 high"),
        (PIXELS[0, 0], "have 3 or 4 dimensions, not 2"),
        (PIXELS.transpose(0, 3, 1, 2) / 2.0, "from 0 to 1: multiply by 255 and save as uint8; channels come"),
        (PIXELS.astype(object), "'images' is an array of Python objects"),
        (PIXELS[:0], "holds no image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_images_say_what_is_wrong(tmp_path, array, message):
    np.savez(tmp_path / "x.npz", images=array)
    with pytest.raises(DataError) as caught:
        images(tmp_path / "x.npz").load(LOCATION)
    assert message in str(caught.value)
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1])], ids=["empty", "text", "pickle"])
def test_a_file_that_is_no_npz(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as an npz") as caught:
        images(tmp_path / "x.npz").load(LOCATION)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize(
    "names, expected",
    [
        (["b/0.png", "a/0.png", "a/deep/1.png"], [0, 0, 1]),
        (["all/b/0.png", "all/a/0.png"], [0, 1]),
        (["train/b/0.png", "train/a/0.png"], [0, 1]),
        (["a/0.png", "b/0.png", "2.png"], None),
        (["all/a/0.png", "all/1.png"], None),
        (["a/0.png", "a/1.png"], None),
        (["all/a/0.png", "all/a/1.png"], None),
        (["train/0.png", "test/0.png"], None),
        (["all/train/a/0.png", "all/val/a/0.png"], None),
        (["0.png", "1.png"], None),
    ],
    ids=str,
)
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_class_folders(tmp_path, names, expected, packed):
    root = tmp_path / "images"
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[0]).save(root / name)
    if packed:
        root = Path(shutil.make_archive(str(root), "zip", root))
    data = images(root).load(LOCATION)
    found = data.train.labels(torch.arange(len(names)))
    assert (None if found is None else found.tolist()) == expected
    assert found is None or found.dtype == torch.int64
    assert data.info.classes == ()
    if expected is not None:
        assert data.train.labels(torch.tensor([1])).tolist() == expected[1:2]


def test_an_npz_of_images_without_pixels(tmp_path):
    np.savez(tmp_path / "x.npz", images=np.zeros((4, 0, 0, 3), np.uint8))
    with pytest.raises(DataError, match="images have at least one pixel"):
        images(tmp_path / "x.npz").load(LOCATION)
