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
    """The quantities that a distribution of t may depend on, as float64 tables over t = 0 … T - 1.

    `snr` is positive and finite; `slope` is -d log SNR/dt, positive; `weight` is the effective weight on the
    network's output, up to a factor. `edges`, float64 [T + 1], is log SNR where the part that each t stands for begins
    and ends: what continuous training draws from for t, or all from the level of t - 1 to its own. It falls, from inf
    where that is the image itself, to -inf where the last SNR is 0; without it, it is that of the levels `snr`.
    """

    snr: "Tensor"
    slope: "Tensor"
    weight: "Tensor"
    edges: "Tensor | None" = None


class TimestepDistribution(Plugin):
    """A distribution from which training draws t."""

    @abstractmethod
    def probabilities(self, context: TimestepContext) -> "Tensor":
        """Return q(t), float64 [T], not negative; debiasctl divides it by its sum."""

    @property
    def corrected(self) -> bool:
        """Whether q is for importance sampling only; base/q then multiplies the loss, and the objective is unchanged.

        Otherwise the distribution is part of the objective, whose effective weight is density times weight.
        """
        return False

    def base(self, context: TimestepContext) -> "Tensor":
        """Return the distribution under which a `corrected` loss is defined, float64 [T]; by default uniform."""
        return context.snr.new_ones(context.snr.shape)

    def spread(self, draws: "Tensor", shared: "Tensor", positions: "Tensor", batch_size: int) -> "Tensor":
        """Return uniform numbers [N] in [0, 1) that the quantile function turns into t; by default `draws`.

        `draws` [N] are independent uniform numbers, `shared` is one more for the whole batch of `batch_size`, and
        `positions` [N] are the images' positions in the batch.
        """
        return draws

    @property
    def varies(self) -> bool:
        """Whether q changes during training."""
        return False

    @property
    def observes(self) -> bool:
        """Whether training calls `observe`; the losses are then gathered from all processes at every step."""
        return False

    def observe(self, t: "Tensor", losses: "Tensor") -> None:
        """Receive a step's timesteps (int64 [N]) and losses (float64 [N]) for the global batch.

        The losses include the bound of a learned variance and the u of a learned weighting, and are not yet corrected
        by base/q.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint, if it `observes`: tensors, numbers, strings and containers of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
