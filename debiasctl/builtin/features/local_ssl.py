"""Features of a small network that learns, without labels, by how much an image was rotated; and is then frozen."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, Split
from debiasctl.builtin.features.local import Local

_ROTATIONS = ("0", "90", "180", "270")  # degrees


class LocalSSL(Local):
    """Penultimate activations of a small network trained to tell rotations apart (arXiv 1803.07728): fd_local-ssl.

    For data without classes: each image in its four rotations is a class of its own. Training, caching and features
    are those of `local`. Images that look alike whichever way they are turned teach it nothing, and it is refused.
    """

    labelled = False
    name: ClassVar[str] = "local-ssl"
    otherwise: ClassVar[str] = "`features=pixels`"

    def task(self, data: LoadedDataset) -> LoadedDataset:
        """The images in four rotations, and which of them it is as the class."""
        info = dataclasses.replace(data.info, classes=_ROTATIONS)
        return dataclasses.replace(data, info=info, train=Rotated(data.train), heldout=Rotated(data.heldout))


@dataclass(frozen=True)
class Rotated:
    """Each image four times, rotated by 0, 90, 180 and 270 degrees, with that as its label."""

    split: Split

    def __len__(self) -> int:
        return len(self.split) * len(_ROTATIONS)

    def images(self, indices: Tensor) -> Tensor:
        """uint8 [N, C, H, W]: image `index // 4`, rotated by `index % 4` quarters."""
        images = self.split.images(indices // len(_ROTATIONS))
        for quarters in range(1, len(_ROTATIONS)):
            rows = (self.labels(indices) == quarters).nonzero().flatten()
            images[rows] = torch.rot90(images[rows], quarters, dims=(2, 3))
        return images

    def labels(self, indices: Tensor) -> Tensor:
        """int64 [N] in [0, 4)."""
        return indices % len(_ROTATIONS)
