import hashlib

import numpy as np
import pytest
import torch

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset
from debiasctl.features.local import Local
from debiasctl.features.pixels import Pixels


def as_dataset(images, labels, *, classes, every):
    """Every `every`-th image is held out."""
    held = torch.arange(len(images)) % every == 0
    info = DatasetInfo(images.shape[-1], images.shape[1], classes, int((~held).sum()), int(held.sum()))
    train, heldout = (ArraySplit(images[mask], None if labels is None else labels[mask]) for mask in (~held, held))
    return LoadedDataset(info, train, heldout, hashlib.sha256(images.numpy().tobytes()).hexdigest())


@pytest.fixture(scope="session")
def digits():
    from sklearn.datasets import load_digits

    real = load_digits()
    images = torch.from_numpy((real.images * 255 / 16).round().astype(np.uint8))[:, None]
    return as_dataset(images, torch.from_numpy(real.target).long(), classes=tuple("0123456789"), every=3)


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
