import dataclasses
import io

import numpy as np
import pytest
import torch

from debiasctl.api import ArraySplit, LoadedDataset, PreparedFeatures
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.extraction import FEATURES, LOGITS, PIXELS, SPATIAL
from debiasctl.evaluation.metrics.neighbours import nearest_distances
from debiasctl.evaluation.reference.real import RealImages
from debiasctl.evaluation.reference.reference import fixed_reference
from debiasctl.evaluation.reference.statistics_file import read_statistics, write_statistics


class Means(PreparedFeatures):
    """Row means as features; counts the images that it sees."""

    seen = 0

    def __init__(self, identity="means"):
        super().__init__(identity=identity, dimension=8, details={})

    def __call__(self, images):
        self.seen += len(images)
        return images.double().mean(dim=(1, 3))

    def spatial(self, images):
        return self(images) + 1

    def logits(self, images):
        return self(images) / 100


def images(data, features, cache, **given):
    return RealImages(data, features, cache_dir=cache, **given)


def test_statistics_are_numpys_and_cached(digits, tmp_path):
    features = Means()
    real = images(digits, features, tmp_path, batch_size=100)
    rows = real.rows([FEATURES])
    made = real.reference(rows)
    array = digits.train.array.double().numpy().mean(axis=(1, 3))
    np.testing.assert_allclose(made.mean, array.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(made.covariance, np.cov(array, rowvar=False), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made.root @ made.root, made.covariance, rtol=1e-9, atol=1e-9 * made.covariance.max())
    torch.testing.assert_close(made.root, made.root.T)
    kernel = (array @ array.T / 8 + 1) ** 3
    labels = digits.train.targets.numpy()
    expected = 0.0
    for one in range(10):  # pairs of different images, each pair of classes as often as it is among all images
        for two in range(10):
            block = kernel[np.ix_(labels == one, labels == two)]
            pairs = block.size - (len(block) if one == two else 0)
            share = block.size / len(array) ** 2
            expected += share * (block.sum() - (np.trace(block) if one == two else 0)) / pairs
    assert real.kernel_self(rows) == pytest.approx(expected, rel=1e-12)
    nearest = nearest_distances(rows.heldout[FEATURES], rows.train[FEATURES])
    assert torch.equal(real.fresh_distances(rows), nearest)
    assert features.seen == len(digits.train) + len(digits.heldout)

    other = images(digits, features, tmp_path)
    again = other.rows([FEATURES])
    assert features.seen == len(digits.train) + len(digits.heldout)
    for name, tensor in vars(made).items():
        found = getattr(other.reference(again), name)
        assert found.dtype == tensor.dtype
        assert torch.equal(found, tensor)
    assert other.kernel_self(again) == real.kernel_self(rows)
    assert torch.equal(other.fresh_distances(again), nearest)


def test_parts_are_kept_one_by_one(digits, tmp_path):
    features, total = Means(), len(digits.train) + len(digits.heldout)
    images(digits, features, tmp_path).rows([FEATURES])
    rows = images(digits, features, tmp_path).rows([FEATURES, SPATIAL, LOGITS])
    assert features.seen == 2 * total + len(digits.heldout)  # class probabilities are of held-out images alone
    assert torch.equal(rows.train[SPATIAL], rows.train[FEATURES] + 1)
    assert set(rows.train) == {FEATURES, SPATIAL}
    assert set(rows.heldout) == {FEATURES, SPATIAL, LOGITS}
    seen = features.seen
    images(digits, features, tmp_path).rows([LOGITS, SPATIAL])
    assert features.seen == seen


def test_pixels_are_kept_whatever_the_extractor(digits, tmp_path):
    class Blind(Batches):
        def images(self, indices):
            raise AssertionError("read before")

    made = images(digits, Means(), tmp_path, max_images=50, batch_size=20).rows([PIXELS])
    assert [len(part[PIXELS]) for part in (made.train, made.heldout)] == [50, 50]
    other = Means()
    other.identity = "other"
    unread = dataclasses.replace(digits, train=Blind(digits.train), heldout=Blind(digits.heldout))
    again = images(unread, other, tmp_path, max_images=50).rows([PIXELS])
    assert torch.equal(again.train[PIXELS], made.train[PIXELS])
    assert torch.equal(again.heldout[PIXELS], made.heldout[PIXELS])


class Batches:
    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def labels(self, indices):
        return self.split.labels(indices)


@pytest.mark.parametrize(
    "change",
    [{"identity": "other"}, {"max_images": 50}, {"content_hash": "other"}],
    ids=lambda change: next(iter(change)),
)
def test_other_images_are_not_taken_from_the_cache(digits, tmp_path, change):
    real = images(digits, Means(), tmp_path)
    first = real.reference(real.rows([FEATURES]))
    features = Means()
    features.identity = change.get("identity", "means")
    data = LoadedDataset(digits.info, digits.train, digits.heldout, change.get("content_hash", digits.content_hash))
    real = images(data, features, tmp_path, max_images=change.get("max_images", 50_000))
    found = real.reference(real.rows([FEATURES]))
    assert features.seen > 0
    assert len(found.features) == min(len(digits.train), change.get("max_images", 50_000))
    assert torch.equal(found.mean, first.mean) == ("max_images" not in change)


def emptied(_data):
    stream = io.BytesIO()
    np.savez(stream, other=np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-500], lambda data: b"nothing", lambda data: flipped(data), emptied]
)
def test_a_damaged_cache_is_made_again_and_says_so(digits, tmp_path, caplog, damage):
    made = images(digits, Means(), tmp_path).rows([FEATURES])
    for path in (tmp_path / "references").iterdir():
        path.write_bytes(damage(path.read_bytes()))
    features = Means()
    again = images(digits, features, tmp_path).rows([FEATURES])
    assert features.seen == len(digits.train) + len(digits.heldout)
    assert caplog.text.count("is damaged") == 2
    assert torch.equal(again.train[FEATURES], made.train[FEATURES])
    images(digits, features, tmp_path).rows([FEATURES])
    assert features.seen == len(digits.train) + len(digits.heldout)


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_features_that_run_in_float32_are_stored_so(digits, tmp_path):
    class Narrow(Means):
        def __call__(self, images):
            return super().__call__(images).float()

    made = images(digits, Narrow("narrow"), tmp_path).rows([FEATURES])
    for path in (tmp_path / "references").iterdir():
        with np.load(path) as archive:
            assert archive["rows"].dtype == np.float32
    assert torch.equal(
        images(digits, Narrow("narrow"), tmp_path).rows([FEATURES]).train[FEATURES], made.train[FEATURES]
    )


def test_no_held_out_images(digits, tmp_path):
    empty = ArraySplit(digits.heldout.array[:0], digits.heldout.targets[:0])
    data = LoadedDataset(digits.info, digits.train, empty, "no-heldout")
    assert images(data, Means(), tmp_path).rows([FEATURES, PIXELS]).heldout == {}


def test_one_training_image_is_no_reference(digits, tmp_path):
    data = LoadedDataset(digits.info, ArraySplit(digits.train.array[:1]), digits.heldout, "one")
    with pytest.raises(EvaluationError, match="at least 2 training images"):
        images(data, Means(), tmp_path).rows([FEATURES])


def test_fixed_statistics_stand_for_a_data_set(digits, tmp_path):
    real = images(digits, Means(), tmp_path)
    made = real.reference(real.rows([FEATURES]))
    write_statistics(tmp_path / "x.npz", made.mean, made.covariance, metadata={"features": "means"})
    statistics = read_statistics(tmp_path / "x.npz")
    assert statistics.metadata == {"features": "means"}
    data = fixed_reference(statistics, digits.info)
    fixed = images(data, Means(), tmp_path / "no-cache")
    rows = fixed.rows([FEATURES, PIXELS])
    found = fixed.reference(rows)
    assert torch.equal(found.mean, made.mean)
    torch.testing.assert_close(found.root, made.root, rtol=1e-9, atol=1e-9)
    assert found.features is None
    assert (rows.train, rows.heldout, len(data.train), len(data.heldout)) == ({}, {}, 0, 0)
    assert not (tmp_path / "no-cache").exists()
    other = Means()
    other.dimension = 9
    with pytest.raises(EvaluationError, match="have 8 dimensions, but these features have 9"):
        images(data, other, tmp_path).reference(rows)
