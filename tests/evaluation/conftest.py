import pytest
import torch
from real_data import as_dataset, digits_dataset

from debiasctl.builtin.features.local import Local
from debiasctl.builtin.features.pixels import Pixels


@pytest.fixture(scope="session")
def digits():
    return digits_dataset(every=3)


@pytest.fixture(scope="session")
def photos():
    """Real colour images without labels: 16x16 patches of scikit-learn's two photographs, halved."""
    from sklearn.datasets import load_sample_images

    halves = [torch.from_numpy(photo[::2, ::2].copy()).permute(2, 0, 1) for photo in load_sample_images().images]
    patches = [
        half.unfold(1, 16, 16).unfold(2, 16, 16).permute(1, 2, 0, 3, 4).reshape(-1, 3, 16, 16) for half in halves
    ]
    return as_dataset(torch.cat(patches), None, classes=(), every=4)


@pytest.fixture(scope="session")
def digit_features(digits, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    options = Local.Options(steps=60, dimension=16)
    return Local(options).prepare(digits, cache_dir=cache, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def photo_features(photos, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return Pixels(Pixels.Options()).prepare(photos, cache_dir=cache, device=torch.device("cpu"))
