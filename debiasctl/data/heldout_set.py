"""The held-out images on which a run's errors are measured."""

from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import Split
from debiasctl.data.pixels import to_model_space
from debiasctl.data.spread import spread_over


@dataclass(frozen=True)
class HeldoutSet:
    """Up to `num_images` images, spread over the held-out split and its classes, in model space on the device."""

    x0: Tensor  # float [N, C, H, W] in [-1, 1]
    labels: Tensor | None  # int64 [N]

    @classmethod
    def of(
        cls, split: Split, *, num_images: int, conditional: bool, device: torch.device, dtype: torch.dtype
    ) -> "HeldoutSet":
        """Read the images from the split."""
        indices = spread_over(split, num_images)
        labels = split.labels(indices) if conditional else None
        x0 = to_model_space(split.images(indices).to(device)).to(dtype)
        return cls(x0, None if labels is None else labels.to(device))
