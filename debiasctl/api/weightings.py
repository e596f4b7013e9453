"""Weightings: the weight of the loss at each noise level."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from debiasctl.api.options import Space
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightingContext:
    """The circumstances that a weighting may depend on: the schedule's `snr` and the `progress` of training.

    `snr` is float64 [T] for t = 0 … T - 1, decreasing, positive and finite; `progress` is in [0, 1].
    """

    snr: "Tensor"
    progress: float = 0.0


@dataclass(frozen=True)
class Learned:
    """What a learned weighting trains beside the network: a module for u, by Adam at its own learning rate.

    `module` maps log-SNR [N] to u [N] in its weights' dtype.
    """

    module: "nn.Module"
    learning_rate: float


class Weighting(Plugin):
    """A loss weight as a function of SNR, written in the space that its paper uses.

    A learned weighting also has a log-variance u(SNR), and its loss is w e^-u error + u (arXiv 2312.02696).
    """

    @property
    @abstractmethod
    def space(self) -> Space:
        """The quantity whose squared error the weight is for, `eps`, `x0`, `v` or `flow`; a class attribute will do."""

    @abstractmethod
    def __call__(self, snr: "Tensor") -> "Tensor":
        """Return weights, float64 with the shape of `snr`, which is float64, positive and finite.

        debiasctl converts them to the space of the network's prediction.
        """

    def at(self, context: WeightingContext) -> "Weighting":
        """Return the weighting for a schedule at a point of training; by default itself, depending on neither."""
        return self

    @property
    def varies(self) -> bool:
        """Whether the weights change during training."""
        return False

    def learned(self) -> Learned | None:
        """Build a learned weighting's u, whose initial values come from torch's global generator, which is seeded.

        Only a learned weighting overrides this.
        """
        return None

    @property
    def is_learned(self) -> bool:
        """Whether it is learned, which it is if it overrides `learned`; nothing is built to tell."""
        return type(self).learned is not Weighting.learned
