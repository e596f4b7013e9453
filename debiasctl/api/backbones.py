"""Backbones: networks."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ImageShape:
    """What a network takes and gives: [N, in_channels, image_size, image_size] to [N, out_channels, ...]."""

    image_size: int
    in_channels: int
    out_channels: int


class Backbone(Plugin):
    """A network F(x, noise_level, labels)."""

    @abstractmethod
    def build(self, shape: ImageShape, num_classes: int) -> "nn.Module":
        """A module with `forward(x, noise_level, labels=None)`.

        `x` is float [N, in_channels, H, W]; `noise_level` float [N] (t as 0 … num_timesteps - 1, or c_noise);
        `labels` int64 [N], given when and only when `num_classes` > 0.

        Raises:
            UsageError: if the shape does not fit.
        """

    @classmethod
    def resolve_options(cls, options: Any, shape: ImageShape) -> Any:
        """The options with those filled in that depend on the image's size; the run's spec holds the result."""
        return options

    @property
    def has_memory_format(self) -> bool:
        """Whether its networks compute in the layout that their attribute `memory_format` states, and may be changed.

        Such a network brings its input into that layout (`torch.channels_last` or `torch.contiguous_format`).
        """
        return False
