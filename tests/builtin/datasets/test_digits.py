import pytest
import torch
from sklearn.datasets import load_digits

from debiasctl.api import DataLocation, Dataset
from debiasctl.registry.entry_points import create


@pytest.fixture
def location(tmp_path):
    return DataLocation(None, tmp_path)


@pytest.fixture
def digits(location):
    return create("datasets", "digits").load(location)


def everything(split):
    return split.images(torch.arange(len(split))), split.labels(torch.arange(len(split)))


def test_info_is_what_is_loaded(digits, location):
    dataset = create("datasets", "digits")
    assert isinstance(dataset, Dataset)
    info = dataset.info(location)
    assert info == digits.info
    assert (info.image_size, info.channels, info.classes) == (8, 1, tuple("0123456789"))
    assert (len(digits.train), len(digits.heldout)) == (info.num_train, info.num_heldout)


def test_every_image_is_in_one_split_and_comes_back_on_its_17_levels(digits):
    source = load_digits()
    expected = sorted((label, *image.reshape(-1)) for image, label in zip(source.images, source.target, strict=True))
    found = []
    for split in (digits.train, digits.heldout):
        images, labels = everything(split)
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert images.shape == (len(split), 1, 8, 8)
        levels = (images.double() * 16 / 255).round()
        found += [(label, *level) for level, label in zip(levels.flatten(1).tolist(), labels.tolist(), strict=True)]
    assert sorted(found) == expected


def test_every_sixth_image_of_each_class_is_held_out(digits):
    source = load_digits()
    _, labels = everything(digits.heldout)
    assert labels.bincount().tolist() == [int((source.target == label).sum()) // 6 for label in range(10)]
    sixth_zero = torch.from_numpy(source.images[source.target == 0][5] * 255 / 16).round().to(torch.uint8)
    first_heldout_zero = digits.heldout.images((labels == 0).nonzero()[0])[0, 0]
    assert torch.equal(first_heldout_zero, sixth_zero)


def test_content_hash_is_stable(digits, location):
    assert create("datasets", "digits").load(location).content_hash == digits.content_hash
    assert len(digits.content_hash) == 64
