"""A distribution of timesteps."""

import torch
from debiasctl.api import PluginOptions, TimestepContext, TimestepDistribution
from pydantic import Field
from torch import Tensor


class MyTimesteps(TimestepDistribution):
    """q(t) ∝ ((t + 1/2)/T)^power: above power 0, noisy timesteps are drawn more often.

    It is part of the objective, whose effective weight is density times weight.
    """

    class Options(PluginOptions):
        """The options of the distribution."""

        power: float = Field(1.0, ge=0, le=10, description="how steeply q rises with t; 0 draws uniformly")

    options: Options

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return q(t) up to a factor, float64 [T]; debiasctl divides it by its sum."""
        count = len(context.snr)
        places = (torch.arange(count, dtype=torch.float64, device=context.snr.device) + 0.5) / count
        return torch.pow(places, self.options.power)
