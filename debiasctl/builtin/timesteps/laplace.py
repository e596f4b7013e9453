"""Laplace-distributed log-SNR."""

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, TimestepContext, TimestepDistribution
from debiasctl.builtin.timesteps._tables import from_log_snr_density
from debiasctl.diffusion import log_of_table


class Laplace(TimestepDistribution):
    """log SNR ~ Laplace(location, scale), concentrated around SNR 1 (Hang et al., 2024, arXiv 2407.03297).

    The density is cut off at the schedule's first and last noise level, and is part of the objective.
    """

    class Options(PluginOptions):
        """The options of Laplace-distributed log-SNR."""

        location: float = Field(0.0, description="log SNR that is drawn most often")
        scale: float = Field(0.5, gt=0, description="mean distance of log SNR from location")

    options: Options

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return q(t) ∝ exp(-|λ - location|/scale) · -dλ/dt with λ = log SNR, float64 [T]; 0 where the SNR is 0."""
        distance = (log_of_table(context.snr) - self.options.location).abs()
        return from_log_snr_density(-distance / self.options.scale, context)
