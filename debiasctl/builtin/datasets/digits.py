"""The handwritten digits that scikit-learn ships."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import ArraySplit, DataLocation, Dataset, DatasetInfo, LoadedDataset, hash_splits

# A small U-Net that predicts v on the cosine schedule. Of the setups that train in about a minute on two CPU cores, its
# samples were the hardest to distinguish from real digits (docs/concepts/results.md).
RECOMMENDED: dict[str, Any] = {
    "data": {"horizontal_flip": False},
    "model": {
        "backbone": "unet:channels=32,channel_mult=[1,2],attention_resolutions=[4]",
        "prediction": "v",
        "conditional": True,
    },
    "diffusion": {"schedule": "cosine"},
    "optimizer": {"lr": 2e-3, "warmup_steps": 50, "decay": "cosine", "weight_decay": 0.0, "clip_grad_norm": 1.0},
    "ema": {"decay": 0.99},
    "training": {"steps": 400, "batch_size": 128, "log_every": 25, "checkpoint_every": 100, "heldout_every": 250},
}

_CLASSES = tuple("0123456789")
_HELDOUT_EVERY = 6
_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)  # images of each class


class Digits(Dataset):
    """1,797 handwritten digits of 8x8 pixels, as scikit-learn ships them (UCI Optical Recognition of Digits).

    The 17 grey levels v = 0 ... 16 are stored as uint8 round(v * 255 / 16); round(x * 16 / 255) maps a pixel x (also of
    a sample) back to them. Every sixth image of each class is held out.
    """

    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the published facts, without reading anything."""
        heldout = [count // _HELDOUT_EVERY for count in _COUNTS]
        train = tuple(count - held for count, held in zip(_COUNTS, heldout, strict=True))
        return DatasetInfo(8, 1, _CLASSES, sum(train), sum(heldout), class_counts=train)

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings for a run of about a minute on two CPU cores."""
        return RECOMMENDED

    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the images from scikit-learn's own files."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        levels = torch.from_numpy(digits.images)
        images = (levels * 255 / 16).round().to(torch.uint8)[:, None]
        targets = torch.from_numpy(digits.target).long()
        chosen = _every_nth_of_each_class(targets, _HELDOUT_EVERY)
        train = ArraySplit(images[~chosen], targets[~chosen])
        heldout = ArraySplit(images[chosen], targets[chosen])
        content_hash = hash_splits({"name": "digits", "classes": _CLASSES}, [train, heldout])
        return LoadedDataset(self.info(location), train, heldout, content_hash)


def _every_nth_of_each_class(targets: Tensor, nth: int) -> Tensor:
    """A mask, bool [N], of the nth, 2nth, ... image of each class, in the order of `targets` (int64 [N])."""
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for label in range(int(targets.max()) + 1):
        members = (targets == label).nonzero().squeeze(1)
        chosen[members[nth - 1 :: nth]] = True
    return chosen
