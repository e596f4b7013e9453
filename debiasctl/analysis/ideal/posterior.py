"""What an ideal denoiser returns, and what one is."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from debiasctl.api import Level


@dataclass(frozen=True)
class Posterior:
    """Of x0 given x_t, all float64: its mean, its variance as a mean over the values of an image, and how it is known.

    `neighbours` is the effective number of images that the mean is of, 1/Σw² with weights w of sum 1; infinite where
    the law itself is known. `se` is the standard error of each value of the mean where it is an estimate.
    """

    mean: Tensor  # [N, C, H, W]
    variance: Tensor  # [N]
    neighbours: Tensor  # [N]
    se: Tensor | None = None  # [N, C, H, W]


class Ideal(Protocol):
    """The denoiser E[x0 | x_t], better than which in mean squared error no network can be on its law."""

    name: str
    exact: bool  # whether the law is the images' own, and not a finite set's

    def __call__(
        self, x_t: Tensor, level: Level, labels: Tensor | None = None, *, own: Tensor | None = None
    ) -> Posterior:
        """The posterior for x_t [N, C, H, W] at a level.

        `labels`, int64 [N], restrict the law to images of a class; a label beyond the classes stands for none. `own`,
        int64 [N], are the training images that x_t were made from, -1 or None for others.
        """
        ...


def with_doubles(device: torch.device) -> torch.device:
    """The device, or the CPU where it has no float64."""
    return torch.device("cpu") if device.type == "mps" else device
