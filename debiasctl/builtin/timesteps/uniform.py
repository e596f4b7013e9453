"""Uniform timesteps."""

import torch
from torch import Tensor

from debiasctl.api import TimestepContext, TimestepDistribution


class Uniform(TimestepDistribution):
    """Uniform t (Ho et al., 2020, arXiv 2006.11239, Alg. 1)."""

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return 1/T for each of the T timesteps, float64 [T]."""
        return torch.full_like(context.snr, 1 / len(context.snr), dtype=torch.float64)
