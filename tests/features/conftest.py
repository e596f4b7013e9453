import hashlib

import numpy as np
import pytest
import torch

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset


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
    return as_dataset(images, torch.from_numpy(real.target).long(), classes=tuple("0123456789"), every=5)


@pytest.fixture(scope="session")
def photos():
    """Real colour images: 40x40 patches of scikit-learn's two photographs; labels say which."""
    from sklearn.datasets import load_sample_images

    whole = [torch.from_numpy(photo.copy()).permute(2, 0, 1) for photo in load_sample_images().images]
    patches = [one.unfold(1, 40, 40).unfold(2, 40, 40).permute(1, 2, 0, 3, 4).reshape(-1, 3, 40, 40) for one in whole]
    labels = torch.arange(2).repeat_interleave(len(patches[0]))
    return as_dataset(torch.cat(patches), labels, classes=("china", "flower"), every=4)
