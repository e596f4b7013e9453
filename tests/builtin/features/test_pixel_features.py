import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

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
    coordinates = (heldout - pca.mean_) @ components.T
    np.testing.assert_allclose(found[:, :12], coordinates, atol=1e-9)
    rest, mean_rest = (
        np.linalg.norm(split - pca.inverse_transform(pca.transform(split)), axis=1) for split in (heldout, train)
    )
    np.testing.assert_allclose(found[:, 12], rest - mean_rest.mean(), atol=1e-9)
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
    assert prepared(digits, tmp_path).dimension == 32 + 1
    assert prepared(digits, tmp_path, resolution=4).dimension == 16  # nothing is left
    assert prepared(few, tmp_path).dimension == 9 + 1
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
    np.testing.assert_allclose(found[:, :32].var(dim=0, correction=0), spectrum, rtol=1e-8)


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


def test_no_power_is_lost_and_no_distance_is_lengthened(digits, tmp_path):
    """With the residual's length in place of its deviation, features are as long as the centred images."""
    features = prepared(digits, tmp_path)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, digits.heldout.array.shape, generator=generator, dtype=torch.uint8)
    images = torch.cat([digits.heldout.array[:100], noise[:100]])
    x = images.flatten(1).double() / 127.5 - 1
    found = features(images)
    (manifest,) = (tmp_path / "features" / "pixels").glob("*/tensors.safetensors")
    stored = load_file(manifest)
    whole = torch.cat([found[:, :-1], found[:, -1:] + stored["residual"]], dim=1)
    torch.testing.assert_close(whole.norm(dim=1), (x - stored["mean"]).norm(dim=1), rtol=1e-10, atol=1e-10)
    assert (torch.cdist(found, found) <= torch.cdist(x, x) + 1e-6).all()


def test_what_lies_outside_the_components_is_seen(digits, tmp_path):
    """Noise that the leading components do not contain moves the last feature, and the others hardly."""
    features = prepared(digits, tmp_path, dimension=8)
    (path,) = (tmp_path / "features" / "pixels").glob("*/tensors.safetensors")
    components = load_file(path)["components"]
    noise = torch.randn(len(digits.heldout), 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outside = 40 * (noise - noise @ components @ components.T).reshape(-1, 1, 8, 8)
    real = 128 + (digits.heldout.array.double() - 128) / 2  # leaves room, so that hardly a pixel is clipped
    plain, noisy = (features(images.round().clamp(0, 255).to(torch.uint8)) for images in (real, real + outside))
    moved = (noisy - plain).mean(dim=0)
    assert moved[-1] > 0.5
    assert moved[:-1].abs().max() < 0.1
