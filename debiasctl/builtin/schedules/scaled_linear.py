"""The scaled-linear schedule."""

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import Schedule, ScheduleOptions
from debiasctl.diffusion import alphas_cumprod_from_betas


class ScaledLinear(Schedule):
    """Square roots of betas linear in t (latent diffusion, Rombach et al., 2022, arXiv 2112.10752)."""

    class Options(ScheduleOptions):
        """The options of the scaled-linear schedule."""

        beta_start: float = Field(0.00085, gt=0, lt=1, description="first beta, for T = 1000")
        beta_end: float = Field(0.012, gt=0, lt=1, description="last beta, for T = 1000")

    options: Options

    def alphas_cumprod(self) -> Tensor:
        """Return the table, float64 [num_timesteps]."""
        scale = 1000 / self.options.num_timesteps
        roots = torch.linspace(
            self.options.beta_start**0.5, self.options.beta_end**0.5, self.options.num_timesteps, dtype=torch.float64
        )
        return alphas_cumprod_from_betas(scale * roots**2)
