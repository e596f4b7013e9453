import dataclasses

import numpy as np
import pytest
import torch

from debiasctl.api import ArraySplit, Features
from debiasctl.builtin.features._support.rotated import Rotated
from debiasctl.builtin.features.local import Local
from debiasctl.builtin.features.local_ssl import LocalSSL
from debiasctl.errors import EvaluationError

CPU = torch.device("cpu")


def prepared(data, cache, **options):
    return LocalSSL(LocalSSL.Options(**options)).prepare(data, cache_dir=cache, device=CPU)


def without_labels(data):
    return dataclasses.replace(
        data,
        info=dataclasses.replace(data.info, classes=()),
        train=ArraySplit(data.train.array),
        heldout=ArraySplit(data.heldout.array),
    )


def test_each_image_in_its_four_rotations(digits):
    rotated = Rotated(ArraySplit(digits.heldout.array[:5]))
    indices = torch.tensor([19, 0, 6, 13, 2])
    assert len(rotated) == 20
    assert rotated.labels(indices).tolist() == [3, 0, 2, 1, 2]
    before = digits.heldout.array[:5].clone()
    for image, index in zip(rotated.images(indices), indices.tolist(), strict=True):
        expected = np.rot90(before[index // 4, 0].numpy(), index % 4)
        np.testing.assert_array_equal(image[0].numpy(), expected)
    assert torch.equal(digits.heldout.array[:5], before)


def test_it_learns_without_labels_what_tells_digits_apart(digits, tmp_path):
    """A nearest-centroid rule in its features knows most digits, though no label was seen."""
    assert isinstance(LocalSSL(LocalSSL.Options()), Features)
    features = prepared(without_labels(digits), tmp_path, steps=300)
    assert features.details["heldout_accuracy"] > 0.8
    assert features.details["classes"] == ["0", "90", "180", "270"]
    assert features.details["num_train"] == len(digits.train)
    train, heldout = features(digits.train.array), features(digits.heldout.array)
    assert train.var(dim=0).mean().item() == pytest.approx(1, rel=1e-2)
    centroids = torch.stack([train[digits.train.targets == label].mean(dim=0) for label in range(10)])
    found = torch.cdist(heldout, centroids).argmin(dim=1)
    assert (found == digits.heldout.targets).double().mean() > 0.5


def test_labels_play_no_part_and_the_cache_is_its_own(digits, tmp_path):
    options = {"steps": 5, "min_accuracy": 0}
    first = prepared(digits, tmp_path, **options)
    assert prepared(without_labels(digits), tmp_path / "other", **options).identity == first.identity
    of_classes = Local(Local.Options(**options)).prepare(digits, cache_dir=tmp_path, device=CPU)
    assert of_classes.identity != first.identity


def test_images_without_an_upside_are_refused(tmp_path, digits):
    """What looks the same whichever way it is turned teaches it nothing."""
    generator = torch.Generator().manual_seed(0)
    dots = torch.randint(0, 256, (60, 1, 1, 1), generator=generator).expand(-1, 1, 8, 8).to(torch.uint8).contiguous()
    data = dataclasses.replace(
        without_labels(digits), train=ArraySplit(dots[:40]), heldout=ArraySplit(dots[40:]), content_hash="dots"
    )
    with pytest.raises(EvaluationError, match=r"always the most common class: 25\.0%; needed: 62\.5%") as caught:
        prepared(data, tmp_path, steps=20)
    assert "Use `features=pixels`" in str(caught.value)


def test_few_steps_by_default(digits, tmp_path, caplog):
    """Two passes over the images in four rotations, and not the 20 that a classifier of labels gets."""
    data = dataclasses.replace(digits, train=ArraySplit(digits.train.array.repeat(3, 1, 1, 1)), content_hash="thrice")
    with caplog.at_level("INFO", "debiasctl"):
        prepared(data, tmp_path, min_accuracy=0)
    assert f"{len(data.train) // 8} steps on {len(data.train)} images" in caplog.text
