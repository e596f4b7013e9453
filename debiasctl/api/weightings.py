"""Weightings: what an error counts at each noise level."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from debiasctl.api.options import Space
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightingContext:
    """Where a weighting is asked for its weights: `snr`, the schedule's table, and `progress` through training.

    `snr` is float64 [T] for t = 0 … T - 1, falling, positive and finite; `progress` is in [0, 1].
    """

    snr: "Tensor"
    progress: float = 0.0


class Weighting(Plugin):
    """A loss weight written as a function of SNR, in the space that its paper uses.

    A learned one has a log-variance u(SNR) beside its weight w, and the loss is w e^-u error + u (arXiv 2312.02696).
    """

    @property
    @abstractmethod
    def space(self) -> Space:
        """Whose squared error the weight is for, `eps`, `x0` or `v`; a plain class attribute does."""

    @abstractmethod
    def __call__(self, snr: "Tensor") -> "Tensor":
        """Weights, float64 of `snr`'s shape; `snr` is float64, positive and finite. The core converts spaces."""

    def at(self, context: WeightingContext) -> "Weighting":
        """The weighting on one schedule at one point of training; itself where it depends on neither."""
        return self

    @property
    def varies(self) -> bool:
        """Whether the weights change in the course of training."""
        return False

    def build(self) -> "nn.Module | None":
        """For a learned weighting, u: a module that maps log-SNR [N] to u [N], in its weights' dtype."""
        return None

    @property
    def learning_rate(self) -> float | None:
        """That of Adam, which trains what `build` gives."""
        return None
