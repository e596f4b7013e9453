"""Backbones: the networks that are trained."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.api.options import Prediction
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class ImageShape:
    """The shapes of a network's input, [N, in_channels, image_size, image_size], and output, [N, out_channels, ...]."""

    image_size: int
    in_channels: int
    out_channels: int


class Backbone(Plugin):
    """A network F(x, noise_level, labels)."""

    @abstractmethod
    def build(self, shape: ImageShape, num_classes: int) -> "nn.Module":
        """Build a module with `forward(x, noise_level, labels=None)`, which returns float [N, out_channels, H, W].

        `x` is float [N, in_channels, H, W]; `noise_level` float [N] (t as 0 … num_timesteps - 1, or c_noise);
        `labels` int64 [N], given if and only if `num_classes` > 0.

        Raises:
            UsageError: if the backbone cannot be built for this shape.
        """

    @classmethod
    def resolve_options(cls, options: Any, shape: ImageShape) -> Any:
        """Fill in the options that depend on the image size; the run's spec stores the result."""
        return options

    def set_memory_format(self, network: "nn.Module", memory_format: "torch.memory_format") -> bool:
        """Make a network that it built compute in a layout, `torch.channels_last` or `torch.contiguous_format`.

        Returns whether it did; by default a backbone has no choice of layouts.
        """
        return False

    def check_prediction(self, prediction: Prediction, *, sigma_data: float) -> None:
        """Check that its network can have a run's prediction type; by default it can have any.

        Raises:
            UsageError: if it cannot.
        """
        return

    def code_sha256(self) -> str | None:
        """The SHA-256 of code outside plugins that its network runs, as it is now; None, the default, if there is none.

        Results depend on it as on the weights. Such code runs once for each network that is built, and that network
        may have no parameters.
        """
        return None
