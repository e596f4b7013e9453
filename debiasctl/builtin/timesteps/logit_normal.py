"""Logit-normal time."""

import math

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, TimestepContext, TimestepDistribution


class LogitNormal(TimestepDistribution):
    """logit(time) ~ N(mean, std²), time = t/T (Stable Diffusion 3: Esser et al., 2024, arXiv 2403.03206, Sec. 3.1).

    A positive mean favours noise, as in the paper; diffusers' training scripts count from the noisiest timestep, so
    that their mean has the opposite sign. On rectified flow's schedule, sigma = time/(1 - time), it equals `lognormal`
    with the same mean and std; on other schedules it does not, because it is defined by time, as in diffusers. It is
    part of the objective.
    """

    class Options(PluginOptions):
        """The options of logit-normal time."""

        mean: float = Field(0.0, description="mean of logit(time); positive favours noise")
        std: float = Field(1.0, gt=0, description="standard deviation of logit(time)")

    options: Options

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return q(t) = P(t/T < time < (t + 1)/T), exactly, float64 [T]."""
        num_timesteps = len(context.snr)
        edges = torch.arange(num_timesteps + 1, dtype=torch.float64, device=context.snr.device) / num_timesteps
        z = (torch.logit(edges) - self.options.mean) / self.options.std
        lower, upper = z[:-1], z[1:]
        # differences use the smaller tails, because the difference of two numbers near 1 would be mostly rounding
        return torch.where(
            lower > 0, _normal_below(-lower) - _normal_below(-upper), _normal_below(upper) - _normal_below(lower)
        )


def _normal_below(z: Tensor) -> Tensor:
    """The standard normal distribution function, exact in its lower tail, unlike torch.special.ndtr."""
    twice: Tensor = torch.special.erfc(-z / math.sqrt(2))
    return twice / 2
