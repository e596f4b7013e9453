"""Weightings: what an error counts at each noise level."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from debiasctl.api.options import Space

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightingContext:
    """Where a weighting is asked for its weights: `snr`, the schedule's table, and `progress` through training.

    `snr` is float64 [T] for t = 0 … T - 1, falling, positive and finite; `progress` is in [0, 1].
    """

    snr: "Tensor"
    progress: float = 0.0


@runtime_checkable
class Weighting(Protocol):
    """A loss weight written as a function of SNR, in the space (`eps`, `x0` or `v`) that its paper uses.

    A class may also have
    - `at(context: WeightingContext) -> Weighting`: the weighting on one schedule at one point of training, where it
      depends on them; and `varies: bool`, true where it changes in the course of training;
    - the methods of `LearnedWeighting`.
    """

    space: Space

    def __call__(self, snr: "Tensor") -> "Tensor":
        """Weights, float64 of `snr`'s shape; `snr` is float64, positive and finite. The core converts spaces."""
        ...


@runtime_checkable
class LearnedWeighting(Protocol):
    """A weighting w with a learned log-variance u(SNR) beside it: the loss is w e^-u error + u (arXiv 2312.02696)."""

    space: Space
    learning_rate: float

    def __call__(self, snr: "Tensor") -> "Tensor":
        """w, as for every weighting; positive."""
        ...

    def build(self) -> "nn.Module":
        """A module whose forward maps log-SNR [N] to u [N], in its weights' dtype; Adam trains it with the network."""
        ...
