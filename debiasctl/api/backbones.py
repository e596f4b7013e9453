"""Backbones: networks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ImageShape:
    """What a network takes and gives: [N, in_channels, image_size, image_size] to [N, out_channels, ...]."""

    image_size: int
    in_channels: int
    out_channels: int


@runtime_checkable
class Backbone(Protocol):
    """A network F(x, noise_level, labels).

    A class may also have `resolve_options(options, shape) -> Options`, a classmethod that fills in what depends on
    the image's size; the run's spec holds its result.
    """

    def build(self, shape: ImageShape, num_classes: int) -> "nn.Module":
        """A module with `forward(x, noise_level, labels=None)`.

        `x` is float [N, in_channels, H, W]; `noise_level` float [N] (t as 0 … num_timesteps - 1, or c_noise);
        `labels` int64 [N], given when and only when `num_classes` > 0. Raises UsageError where the shape does not fit.
        """
        ...
