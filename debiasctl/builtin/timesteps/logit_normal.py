"""Logit-normal time."""

import math

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.builtin.timesteps._share import Edges, OverShare, ShareOptions


class LogitNormal(OverShare):
    """logit(time) ~ N(mean, std²), time = t/T (Stable Diffusion 3: Esser et al., 2024, arXiv 2403.03206, Sec. 3.1).

    A positive mean favours noise, as in the paper. diffusers' training scripts draw a number between 0 and 1 in the
    same way and look it up among timesteps that are in order from noise to image, so that their time is 1 minus that
    number, and their mean has the opposite sign. On the schedule `flow` without shift, time is the share of noise
    s = sigma/(alpha + sigma), and ln(sigma/alpha) = logit(s): there it is `lognormal` with the same mean and std. With
    a shift, or on another schedule, it is not: as in diffusers the number is drawn first, and the schedule says which
    noise it stands for. variable=s means s itself, on any schedule; that is `lognormal`, up to the width of a timestep.
    It is part of the objective.
    """

    class Options(ShareOptions):
        """The options of logit-normal time."""

        mean: float = Field(0.0, description="mean of logit(time); positive favours noise")
        std: float = Field(1.0, gt=0, description="standard deviation of logit(time)")

    options: Options

    def tails(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return the probabilities below and above each edge, exact in both tails."""
        z = (edges.logit - self.options.mean) / self.options.std
        return _normal_below(z), _normal_below(-z)


def _normal_below(z: Tensor) -> Tensor:
    """The standard normal distribution function, exact in its lower tail, unlike torch.special.ndtr."""
    twice: Tensor = torch.special.erfc(-z / math.sqrt(2))
    return twice / 2
