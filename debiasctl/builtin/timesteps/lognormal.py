"""Log-normal noise levels."""

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, TimestepContext, TimestepDistribution
from debiasctl.builtin.timesteps._tables import from_log_snr_density
from debiasctl.diffusion import log_of_table


class LogNormal(TimestepDistribution):
    """ln sigma ~ N(mean, std²), sigma the noise-to-signal ratio (EDM: Karras et al., 2022, arXiv 2206.00364, Table 1).

    The defaults are EDM's; EDM2 (arXiv 2312.02696) has mean -0.4, std 1. The density is cut off at the schedule's
    first and last noise level, and is part of the objective.
    """

    class Options(PluginOptions):
        """The options of log-normal noise levels."""

        mean: float = Field(-1.2, description="mean of ln sigma, sigma = 1/√SNR")
        std: float = Field(1.2, gt=0, description="standard deviation of ln sigma")

    options: Options

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return q(t) ∝ N(-λ/2; mean, std²) · -dλ/dt with λ = log SNR, float64 [T]; 0 where the SNR is 0."""
        z = (-log_of_table(context.snr) / 2 - self.options.mean) / self.options.std
        return from_log_snr_density(-(z**2) / 2, context)
