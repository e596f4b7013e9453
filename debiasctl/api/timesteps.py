"""Distributions of timesteps: how training draws t."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.api.plugin import Plugin

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


class TimestepDistribution(Plugin):
    """How training draws t."""

    @abstractmethod
    def probabilities(self, context: TimestepContext) -> "Tensor":
        """q(t), float64 [T], not negative; the core divides it by its sum."""

    @property
    def corrected(self) -> bool:
        """Whether q is only a way of drawing: the loss is multiplied by base/q, and the objective does not change.

        Otherwise the distribution is part of the objective: density times weight is what is minimised.
        """
        return False

    def base(self, context: TimestepContext) -> "Tensor":
        """Where `corrected`, the distribution that the loss is meant under, float64 [T] as `probabilities`; uniform."""
        return context.snr.new_ones(context.snr.shape)

    def spread(self, draws: "Tensor", shared: "Tensor", positions: "Tensor", batch_size: int) -> "Tensor":
        """Uniform numbers [N] in [0, 1) that are turned into t by the quantile function.

        `draws` [N] are independent ones, and what is used by default; `shared` is one more for the whole batch of
        `batch_size`, and `positions` [N] are the images' places in it.
        """
        return draws

    @property
    def varies(self) -> bool:
        """Whether q changes in the course of training."""
        return False

    @property
    def observes(self) -> bool:
        """Whether `observe` is to be called; the losses are then gathered from all processes at every step."""
        return False

    def observe(self, t: "Tensor", losses: "Tensor") -> None:
        """See a step's losses: int64 t [N] and float64 [N] of the global batch.

        They are all that is minimised, a learned variance's bound and a learned weighting's u included, before the
        correction.
        """

    def state_dict(self) -> dict[str, Any]:
        """Where it `observes`, what it has learned, for the checkpoint: tensors, numbers, strings, containers."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of a checkpoint."""
