import numpy as np
import pytest
import torch

from debiasctl.api import ArraySplit, LoadedDataset
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.colour import mean_colours
from debiasctl.evaluation.reference import extract, fixed_reference, reference_statistics, spread_indices
from debiasctl.evaluation.statistics_file import read_statistics, write_statistics


class Means:
    """Row means as features; counts the images that it sees."""

    identity = "means"
    dimension = 8
    seen = 0

    def __init__(self):
        self.details = {}

    def __call__(self, images):
        self.seen += len(images)
        return images.double().mean(dim=(1, 3))


@pytest.mark.parametrize("total, count", [(10, 3), (10, 10), (10, 50), (7, 2), (0, 5), (50_001, 50_000)])
def test_spread_indices(total, count):
    indices = spread_indices(total, count)
    assert len(indices) == min(total, count)
    assert len(indices.unique()) == len(indices)
    if len(indices):
        assert indices[0] == 0
        assert indices[-1] < total
        steps = indices.diff()
        assert not len(steps) or steps.max() - steps.min() <= 1


def test_statistics_are_numpys_and_cached(digits, tmp_path):
    features = Means()
    made = reference_statistics(digits, features, cache_dir=tmp_path, batch_size=100)
    array = digits.train.array.double().numpy().mean(axis=(1, 3))
    np.testing.assert_allclose(made.mean, array.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(made.covariance, np.cov(array, rowvar=False), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(made.root @ made.root, made.covariance, rtol=1e-9, atol=1e-9 * made.covariance.max())
    torch.testing.assert_close(made.root, made.root.T)
    kernel = (array @ array.T / 8 + 1) ** 3
    expected = (kernel.sum() - np.trace(kernel)) / len(array) / (len(array) - 1)
    assert made.kernel_self.item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(made.colours, mean_colours(digits.train.array))
    assert torch.equal(made.heldout_colours, mean_colours(digits.heldout.array))
    assert features.seen == len(digits.train) + len(digits.heldout)

    again = reference_statistics(digits, features, cache_dir=tmp_path)
    assert features.seen == len(digits.train) + len(digits.heldout)
    for name, tensor in vars(made).items():
        assert getattr(again, name).dtype == torch.float64
        assert torch.equal(getattr(again, name), tensor)


@pytest.mark.parametrize(
    "change",
    [{"identity": "other"}, {"max_images": 50}, {"content_hash": "other"}],
    ids=lambda change: next(iter(change)),
)
def test_another_reference_is_not_taken_from_the_cache(digits, tmp_path, change):
    reference_statistics(digits, Means(), cache_dir=tmp_path)
    features = Means()
    features.identity = change.get("identity", "means")
    data = LoadedDataset(digits.info, digits.train, digits.heldout, change.get("content_hash", digits.content_hash))
    found = reference_statistics(data, features, cache_dir=tmp_path, max_images=change.get("max_images", 50_000))
    assert features.seen > 0
    assert len(found.features) == min(len(digits.train), change.get("max_images", 50_000))


@pytest.mark.parametrize("damage", [lambda data: data[:-500], lambda data: b"nothing", lambda data: flipped(data)])
def test_a_damaged_cache_is_made_again_and_says_so(digits, tmp_path, caplog, damage):
    made = reference_statistics(digits, Means(), cache_dir=tmp_path)
    (path,) = (tmp_path / "references").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    features = Means()
    again = reference_statistics(digits, features, cache_dir=tmp_path)
    assert features.seen > 0
    assert "damaged" in caplog.text
    assert torch.equal(again.features, made.features)
    reference_statistics(digits, features, cache_dir=tmp_path)
    assert features.seen == len(digits.train) + len(digits.heldout)


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_features_that_run_in_float32_are_stored_so(digits, tmp_path):
    class Narrow(Means):
        identity = "narrow"

        def __call__(self, images):
            return super().__call__(images).float()

    made = reference_statistics(digits, Narrow(), cache_dir=tmp_path)
    (path,) = (tmp_path / "references").iterdir()
    with np.load(path) as archive:
        assert archive["features"].dtype == np.float32
        assert archive["covariance"].dtype == np.float64
    assert torch.equal(reference_statistics(digits, Narrow(), cache_dir=tmp_path).features, made.features)


def test_no_held_out_images(digits, tmp_path):
    empty = ArraySplit(digits.heldout.array[:0], digits.heldout.targets[:0])
    data = LoadedDataset(digits.info, digits.train, empty, "no-heldout")
    assert reference_statistics(data, Means(), cache_dir=tmp_path).heldout_features.shape == (0, 8)


def test_one_training_image_is_no_reference(digits, tmp_path):
    data = LoadedDataset(digits.info, ArraySplit(digits.train.array[:1]), digits.heldout, "one")
    with pytest.raises(EvaluationError, match="at least 2 training images"):
        reference_statistics(data, Means(), cache_dir=tmp_path)


def test_fixed_statistics_stand_for_a_data_set(digits, tmp_path):
    made = reference_statistics(digits, Means(), cache_dir=tmp_path)
    write_statistics(tmp_path / "x.npz", made.mean, made.covariance, metadata={"features": "means"})
    statistics = read_statistics(tmp_path / "x.npz")
    assert statistics.metadata == {"features": "means"}
    data = fixed_reference(statistics, digits.info)
    found = reference_statistics(data, Means(), cache_dir=tmp_path / "no-cache")
    assert torch.equal(found.mean, made.mean)
    torch.testing.assert_close(found.root, made.root, rtol=1e-9, atol=1e-9)
    assert found.features is found.kernel_self is found.colours is None
    assert (len(found.heldout_features), len(data.train), len(data.heldout)) == (0, 0, 0)
    assert not (tmp_path / "no-cache").exists()
    other = Means()
    other.dimension = 9
    with pytest.raises(EvaluationError, match="have 8 dimensions and these features 9"):
        reference_statistics(data, other, cache_dir=tmp_path)


@pytest.mark.parametrize(
    "broken, message",
    [
        (lambda images: torch.full((len(images), 8), float("nan")), "NaN"),
        (lambda images: torch.zeros(len(images), 5), "dimension 8"),
        (lambda images: torch.zeros(1, 8), "dimension 8"),
    ],
)
def test_a_broken_extractor_is_reported(digits, broken, message):
    class Broken(Means):
        def __call__(self, images):
            return broken(images)

    with pytest.raises(EvaluationError, match=message):
        extract(Broken(), digits.train.array[:20], batch_size=10)
