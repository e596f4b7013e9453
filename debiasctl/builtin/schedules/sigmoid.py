"""The sigmoid schedule."""

import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import Schedule, ScheduleOptions
from debiasctl.diffusion import alphas_cumprod_from_function


class Sigmoid(Schedule):
    """alphas_cumprod falls as a sigmoid of t from `start` to `end` (Jabri et al., 2022, arXiv 2212.11972)."""

    class Options(ScheduleOptions):
        """The options of the sigmoid schedule."""

        start: float = Field(-3.0, description="the sigmoid's argument at t = 0")
        end: float = Field(3.0, description="the sigmoid's argument at t = T")
        tau: float = Field(1.0, gt=0, description="temperature: start and end are divided by it")
        max_beta: float = Field(0.999, gt=0, lt=1, description="betas near t = T are clipped to this")

        @model_validator(mode="after")
        def _ordered(self) -> "Sigmoid.Options":
            if self.end <= self.start:
                raise ValueError(f"end ({self.end}) must be greater than start ({self.start})")
            return self

    options: Options

    def alphas_cumprod(self) -> Tensor:
        """Return the table, float64 [num_timesteps]."""
        start, end, tau = self.options.start, self.options.end, self.options.tau
        time = torch.linspace(0, 1, self.options.num_timesteps + 1, dtype=torch.float64)
        curve = torch.sigmoid((time * (end - start) + start) / tau)
        return alphas_cumprod_from_function(
            (curve[-1] - curve) / (curve[-1] - curve[0]), max_beta=self.options.max_beta
        )
