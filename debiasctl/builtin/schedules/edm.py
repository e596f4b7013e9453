"""EDM's noise levels."""

import math

import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import Schedule, ScheduleOptions


class EDM(Schedule):
    """EDM's noise levels, ln sigma linear in t from sigma_min to sigma_max (Karras et al., 2022, arXiv 2206.00364).

    The process is written as variance-preserving: x_t = alpha x0 + sigma' eps with alpha² + sigma'² = 1 and
    sigma'/alpha = sigma is EDM's x0 + sigma eps divided by √(1 + sigma²), and with edm-prediction the network gets
    exactly the same input. log SNR = -2 ln sigma is linear in t, so that `uniform` timesteps are log-uniform in sigma
    and `lognormal` ones are EDM's.
    """

    class Options(ScheduleOptions):
        """The options of EDM's noise levels."""

        continuous: bool = Field(True, description="also train between timesteps, as EDM does, ln sigma linear in t")
        sigma_min: float = Field(0.002, gt=0, description="noise-to-signal ratio at t = 0")
        sigma_max: float = Field(80.0, gt=0, description="noise-to-signal ratio at t = T - 1")

        @model_validator(mode="after")
        def _ordered(self) -> "EDM.Options":
            if self.sigma_max <= self.sigma_min:
                raise ValueError(f"sigma_max ({self.sigma_max}) must be greater than sigma_min ({self.sigma_min})")
            if self.zero_terminal_snr:
                raise ValueError(
                    "zero_terminal_snr is not possible with EDM's noise levels, whose last is sigma_max. "
                    "Raise sigma_max, or use another schedule"
                )
            return self

    options: Options

    def log_snr(self, u: Tensor) -> Tensor:
        """Return -2 ln sigma, linear in u, float64; u = 0 and 1 lie half a step beyond sigma_min and sigma_max."""
        first, last = math.log(self.options.sigma_min), math.log(self.options.sigma_max)
        size = self.options.num_timesteps
        return -2 * (first + (last - first) * (u.to(torch.float64) * size - 0.5) / (size - 1))

    def alphas_cumprod(self) -> Tensor:
        """Return 1/(1 + sigma²), float64 [num_timesteps]."""
        first, last = math.log(self.options.sigma_min), math.log(self.options.sigma_max)
        return torch.sigmoid(-2 * torch.linspace(first, last, self.options.num_timesteps, dtype=torch.float64))
