"""Real images that scikit-learn ships, as data sets made without the package's own plugins."""

import hashlib

import numpy as np
import torch

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset


def as_dataset(images, labels, *, classes, every):
    """Every `every`-th image is held out."""
    held = torch.arange(len(images)) % every == 0
    info = DatasetInfo(images.shape[-1], images.shape[1], classes, int((~held).sum()), int(held.sum()))
    train, heldout = (ArraySplit(images[mask], None if labels is None else labels[mask]) for mask in (~held, held))
    return LoadedDataset(info, train, heldout, hashlib.sha256(images.numpy().tobytes()).hexdigest())


def digits_dataset(*, every):
    from sklearn.datasets import load_digits

    real = load_digits()
    images = torch.from_numpy((real.images * 255 / 16).round().astype(np.uint8))[:, None]
    return as_dataset(images, torch.from_numpy(real.target).long(), classes=tuple("0123456789"), every=every)
