import dataclasses

import numpy as np
import pytest
import torch

from debiasctl.api import ArraySplit, Features
from debiasctl.builtin.features._support import components
from debiasctl.builtin.features.pixels import Pixels
from debiasctl.errors import EvaluationError, UsageError

CPU = torch.device("cpu")


def prepared(data, cache, **options):
    return Pixels(Pixels.Options(**options)).prepare(data, cache_dir=cache, device=CPU)


def test_components_are_scikit_learns(digits, tmp_path):
    from sklearn.decomposition import PCA

    assert isinstance(Pixels(Pixels.Options()), Features)
    features = prepared(digits, tmp_path, dimension=12)
    train, heldout = (split.array.flatten(1).double().numpy() / 127.5 - 1 for split in (digits.train, digits.heldout))
    pca = PCA(12, svd_solver="full").fit(train)
    components = pca.components_ * np.sign(
        np.take_along_axis(pca.components_, np.abs(pca.components_).argmax(1)[:, None], 1)
    )
    found = features(digits.heldout.array)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, (heldout - pca.mean_) @ components.T, atol=1e-9)
    assert features.details["explained_variance"] == pytest.approx(pca.explained_variance_ratio_.sum())


def test_the_cache_is_used_and_repaired(digits, tmp_path, monkeypatch, caplog):
    first = prepared(digits, tmp_path)
    original = components.principal_components
    monkeypatch.setattr(components, "principal_components", None)
    assert prepared(digits, tmp_path).identity == first.identity
    (path,) = (tmp_path / "features" / "pixels").glob("*/tensors.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(components, "principal_components", original)
    again = prepared(digits, tmp_path)
    assert "damaged" in caplog.text
    assert torch.equal(again(digits.heldout.array), first(digits.heldout.array))


@pytest.mark.parametrize("options", [{"dimension": 5}, {"resolution": 4}], ids=str)
def test_other_options_are_another_extractor(digits, tmp_path, options):
    assert prepared(digits, tmp_path, **options).identity != prepared(digits, tmp_path).identity


def test_the_dimension_is_what_the_data_allows(digits, tmp_path):
    few = dataclasses.replace(digits, train=ArraySplit(digits.train.array[:10]), content_hash="few")
    assert prepared(digits, tmp_path).dimension == 32
    assert prepared(digits, tmp_path, resolution=4).dimension == 16
    assert prepared(few, tmp_path).dimension == 9
    with pytest.raises(UsageError, match="Choose at most 9"):
        prepared(few, tmp_path, dimension=10)
    with pytest.raises(EvaluationError, match="at least 2"):
        prepared(dataclasses.replace(few, train=ArraySplit(digits.train.array[:1])), tmp_path)


def test_larger_colour_images_are_averaged_down(photos, tmp_path):
    features = prepared(photos, tmp_path, resolution=20)
    blocks = photos.train.array.double().reshape(-1, 3, 20, 2, 20, 2).mean(dim=(3, 5)).flatten(1) / 127.5 - 1
    centred = (blocks - blocks.mean(dim=0)).numpy()
    spectrum = np.linalg.svd(centred, compute_uv=False)[:32] ** 2 / len(centred)
    found = features(photos.train.array)
    np.testing.assert_allclose(found.mean(dim=0), 0, atol=1e-10)
    np.testing.assert_allclose(found.var(dim=0, correction=0), spectrum, rtol=1e-8)


def test_a_subset_is_spread_evenly(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(components, "MAX_IMAGES", 100)
    count = len(digits.train)
    chosen = digits.train.array[torch.arange(100) * count // 100]
    subset = dataclasses.replace(digits, train=ArraySplit(chosen), content_hash="subset")
    whole = prepared(digits, tmp_path)
    assert torch.equal(whole(digits.heldout.array), prepared(subset, tmp_path)(digits.heldout.array))
    assert whole.details["num_train"] == 100


def test_features_do_not_depend_on_the_batch(digits, tmp_path):
    features = prepared(digits, tmp_path)
    images = digits.train.array[:600]
    parts = torch.cat([features(part) for part in torch.split(images, 7)])
    torch.testing.assert_close(parts, features(images), rtol=1e-12, atol=1e-12)


def test_images_that_are_all_the_same(digits, tmp_path):
    flat = dataclasses.replace(digits, train=ArraySplit(torch.full((20, 1, 8, 8), 255, dtype=torch.uint8)))
    features = prepared(flat, tmp_path)
    assert features.details["explained_variance"] is None
    assert features(flat.train.array).abs().max() < 1e-12
