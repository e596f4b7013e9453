import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

from debiasctl.api import DataLocation, Dataset
from debiasctl.errors import PluginOptionsError
from debiasctl.registry.entry_points import create


@pytest.fixture
def location(tmp_path):
    return DataLocation(None, tmp_path)


def load(reference, location):
    return create("datasets", reference).load(location)


def independent_crops(size):
    """(heldout, photo, row, column) of all crops inside one 64x64 block of the 213x320 photographs, by brute force."""
    for photo in range(2):
        for row in range(213 - size + 1):
            for column in range(320 - size + 1):
                blocks = {(y // 64, x // 64) for y in (row, row + size - 1) for x in (column, column + size - 1)}
                if len(blocks) == 1:
                    (i, j) = blocks.pop()
                    yield (j + 2 * i) % 5 == 0, photo, row, column


@pytest.mark.parametrize("size", [8, 16, 22, 64])
def test_images_are_all_crops_inside_a_block(size, location):
    data = load(f"photo-patches:size={size}", location)
    crops = list(independent_crops(size))
    for heldout, split in ((False, data.train), (True, data.heldout)):
        expected = sorted(crop[1:] for crop in crops if crop[0] == heldout)
        assert sorted(map(tuple, split.positions.tolist())) == expected
    assert (data.info.num_train, data.info.num_heldout) == (len(data.train), len(data.heldout))


@pytest.mark.parametrize("size", [8, 16, 40])
def test_no_pixel_is_both_trained_on_and_held_out(size, location):
    data = load(f"photo-patches:size={size}", location)
    covered = []
    for split in (data.train, data.heldout):
        pixels = torch.zeros(2, 213, 320, dtype=torch.bool)
        for photo, row, column in split.positions.tolist():
            pixels[photo, row : row + size, column : column + size] = True
        covered.append(pixels)
    assert not (covered[0] & covered[1]).any()
    assert covered[1].flatten(1).any(dim=1).all()  # both photographs have held-out parts
    assert len(covered[1].any(dim=1)[0].nonzero()) > 64  # which do not lie in one column of blocks


def test_pixels_are_means_of_two_by_two_and_labels_say_which_photograph(location):
    data = load("photo-patches", location)
    photos = [photo.astype(np.float64) for photo in load_sample_images().images]
    indices = torch.tensor([0, 5, 5, len(data.train) - 1, 30000])
    images, labels = data.train.images(indices), data.train.labels(indices)
    assert images.shape == (5, 3, 16, 16)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64
    for image, label, (photo, row, column) in zip(images, labels, data.train.positions[indices].tolist(), strict=True):
        assert label == photo
        for y, x in ((0, 0), (3, 15), (15, 2)):
            top, left = 2 * (row + y), 2 * (column + x)
            mean = photos[photo][top : top + 2, left : left + 2].mean(axis=(0, 1))
            assert image[:, y, x].tolist() == np.floor(mean + 0.5).tolist()


def test_info_and_hash(location):
    dataset = create("datasets", "photo-patches")
    assert isinstance(dataset, Dataset)
    data = dataset.load(location)
    assert dataset.info(location) == data.info
    assert (data.info.image_size, data.info.channels, data.info.classes) == (16, 3, ("china", "flower"))
    assert data.content_hash == load("photo-patches:size=16", location).content_hash
    assert data.content_hash != load("photo-patches:size=17", location).content_hash


@pytest.mark.parametrize("size", [7, 65])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(PluginOptionsError, match="size"):
        create("datasets", f"photo-patches:size={size}")
