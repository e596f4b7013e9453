"""Distributions of timesteps: how training draws t."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TimestepContext:
    """What a distribution of t may depend on: float64 tables over t = 0 … T - 1.

    `snr` is positive and finite; `slope` is -d log SNR/dt, positive; `weight` is the effective weight on the
    network's output, up to a factor.
    """

    snr: "Tensor"
    slope: "Tensor"
    weight: "Tensor"


@runtime_checkable
class TimestepDistribution(Protocol):
    """How training draws t.

    With `corrected = False` the distribution is part of the objective: density times weight is what is minimised.
    With `corrected = True` it is only a way of drawing: the loss is multiplied by base/q, so that the objective is the
    weighted loss under `base`. A class may also have
    - `base(context) -> Tensor`, float64 [T] with sum 1: that base distribution (without it: uniform);
    - `spread(draws, shared, positions, batch_size) -> Tensor`: other uniform numbers [N] in [0, 1) for the quantile
      function, from independent ones [N], one shared by the whole batch, and the positions [N] in it;
    - `varies: bool`, true where q changes in the course of training; and `observe(t, losses)`, which sees each step's
      int64 t [N] and losses float64 [N] of the global batch (all that is minimised, a learned variance's bound and a
      learned weighting's u included, before the correction), with `state_dict()`, `load_state_dict(state)`.
    """

    corrected: bool

    def probabilities(self, context: TimestepContext) -> "Tensor":
        """q(t), float64 [T], not negative; the core divides it by its sum."""
        ...
