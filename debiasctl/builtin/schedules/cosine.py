"""The cosine schedule."""

import math

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import Schedule, ScheduleOptions
from debiasctl.diffusion import alphas_cumprod_from_function


class Cosine(Schedule):
    """alphas_cumprod = cos²((t/T + s)/(1 + s) π/2) (Nichol and Dhariwal, 2021, arXiv 2102.09672, Eq. 17)."""

    class Options(ScheduleOptions):
        """The options of the cosine schedule."""

        s: float = Field(0.008, ge=0, lt=1, description="offset that keeps the first betas from vanishing")
        max_beta: float = Field(0.999, gt=0, lt=1, description="betas near t = T are clipped to this")

    options: Options

    def alphas_cumprod(self) -> Tensor:
        """Return the table, float64 [num_timesteps]."""
        s = self.options.s
        time = torch.linspace(0, 1, self.options.num_timesteps + 1, dtype=torch.float64)
        curve = torch.cos((time + s) / (1 + s) * math.pi / 2) ** 2
        return alphas_cumprod_from_function(curve, max_beta=self.options.max_beta)
