"""The linear schedule."""

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import Schedule, ScheduleOptions
from debiasctl.diffusion import alphas_cumprod_from_betas


class Linear(Schedule):
    """Betas linear in t (Ho et al., 2020, arXiv 2006.11239), scaled by 1000/T as in arXiv 2102.09672."""

    class Options(ScheduleOptions):
        """The options of the linear schedule."""

        beta_start: float = Field(1e-4, gt=0, lt=1, description="first beta, for T = 1000")
        beta_end: float = Field(0.02, gt=0, lt=1, description="last beta, for T = 1000")

    options: Options

    def alphas_cumprod(self) -> Tensor:
        """Return the table, float64 [num_timesteps]."""
        scale = 1000 / self.options.num_timesteps
        betas = scale * torch.linspace(
            self.options.beta_start, self.options.beta_end, self.options.num_timesteps, dtype=torch.float64
        )
        return alphas_cumprod_from_betas(betas)
