"""Shared parts of distributions of t: densities over noise levels on a table, and importance sampling of a base."""

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import NestedTimesteps, PluginOptions, TimestepContext, TimestepDistribution, UsageError
from debiasctl.diffusion import log_of_table

_NEVER = 1e-200  # lower probabilities are never drawn, and would underflow in products with weights


def normalised(table: Tensor) -> Tensor:
    """Divide `table` by its sum, float64 [T]."""
    table = table.to(torch.float64)
    return table / table.sum()


def from_log_snr_density(log_density: Tensor, context: TimestepContext) -> Tensor:
    """Compute q(t) ∝ p(λ_t) · -dλ/dt from log p, float64 [T] with sum 1; q is 0 where the SNR is 0.

    Logarithms keep a density that is far from all noise levels of the schedule from underflowing: its nearest one gets
    probability 1.
    """
    log_density = log_density.masked_fill(torch.isinf(log_of_table(context.snr)), -torch.inf)
    density = torch.softmax(log_density + context.slope.log(), dim=0)
    return density.masked_fill(density < _NEVER, 0.0)


class BaseOptions(PluginOptions):
    """The options of importance sampling: the distribution under which the loss is defined."""

    base: NestedTimesteps = Field(
        "uniform", validate_default=True, description="distribution under which the objective is defined"
    )


class DrawnUnderBase(TimestepDistribution):
    """A distribution for importance sampling, for which the objective remains the weighted loss under `base`."""

    corrected = True
    options: BaseOptions

    def __init__(self, options: BaseOptions) -> None:
        super().__init__(options)
        base, name = options.base.create(), options.base.name
        if base.corrected or base.observes:
            raise UsageError(
                f"base={name}: '{name}' is itself for importance sampling under a base, so it defines no objective. "
                "Choose a base that is part of the objective, such as uniform or lognormal"
            )
        self._base = base

    @property
    def varies(self) -> bool:
        """Whether q changes during training."""
        return self._base.varies

    def base(self, context: TimestepContext) -> Tensor:
        """The base distribution, float64 [T] with sum 1."""
        return normalised(self._base.probabilities(context))
