"""Images in four rotations, each of which is a class."""

from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import Split

ROTATIONS = ("0", "90", "180", "270")  # degrees


@dataclass(frozen=True)
class Rotated:
    """A split of each image four times, rotated by 0, 90, 180 and 270 degrees, with the rotation as its label."""

    split: Split

    def __len__(self) -> int:
        return len(self.split) * len(ROTATIONS)

    def images(self, indices: Tensor) -> Tensor:
        """Return uint8 [N, C, H, W]: image `index // 4`, rotated by `index % 4` quarter turns."""
        images = self.split.images(indices // len(ROTATIONS))
        for quarters in range(1, len(ROTATIONS)):
            rows = (self.labels(indices) == quarters).nonzero().flatten()
            images[rows] = torch.rot90(images[rows], quarters, dims=(2, 3))
        return images

    def labels(self, indices: Tensor) -> Tensor:
        """The rotations at `indices`, int64 [N] in [0, 4)."""
        return indices % len(ROTATIONS)
