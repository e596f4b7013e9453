"""What the distributions share: densities of the noise level on a table of timesteps, and drawing under a base."""

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import NestedTimesteps, PluginOptions, TimestepContext, TimestepDistribution, UsageError

_ZERO_SNR = 1e-19  # the core hands out 1e-20 where the SNR is 0
_NEVER = 1e-200  # probabilities that no training ever draws, and that would underflow in products with weights


def normalised(table: Tensor) -> Tensor:
    """`table` over its sum, float64 [T]."""
    table = table.to(torch.float64)
    return table / table.sum()


def log_snr_of(context: TimestepContext) -> Tensor:
    """λ = log SNR, float64 [T]; -inf where the SNR is 0."""
    return context.snr.log().masked_fill(context.snr <= _ZERO_SNR, -torch.inf)


def from_log_snr_density(log_density: Tensor, context: TimestepContext) -> Tensor:
    """q(t) ∝ p(λ_t) · -dλ/dt from log p, float64 [T] with sum 1; where the SNR is 0, λ has no density and q is 0.

    In logarithms, so that a density far from all of the schedule's noise levels is still one on its nearest.
    """
    log_density = log_density.masked_fill(torch.isinf(log_snr_of(context)), -torch.inf)
    density = torch.softmax(log_density + context.slope.log(), dim=0)
    return density.masked_fill(density < _NEVER, 0.0)


class BaseOptions(PluginOptions):
    """Options of a way of drawing: the distribution under which the loss is meant."""

    base: NestedTimesteps = Field(
        "uniform", validate_default=True, description="distribution that the objective is meant under"
    )


class DrawnUnderBase(TimestepDistribution):
    """A way of drawing t that leaves the objective the weighted loss under `base`."""

    corrected = True
    options: BaseOptions

    def __init__(self, options: BaseOptions) -> None:
        super().__init__(options)
        base, name = options.base.create(), options.base.name
        if base.corrected or base.observes:
            raise UsageError(
                f"base={name}: '{name}' is itself a way of drawing under a base, and no objective. "
                "Choose as base a distribution that is part of the objective, such as uniform or lognormal"
            )
        self._base = base

    @property
    def varies(self) -> bool:
        """Whether q changes in the course of training."""
        return self._base.varies

    def base(self, context: TimestepContext) -> Tensor:
        """The base distribution, float64 [T] with sum 1."""
        return normalised(self._base.probabilities(context))
