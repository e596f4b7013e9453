"""SpeeD's asymmetric sampling."""

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, TimestepContext, TimestepDistribution, UsageError
from debiasctl.builtin.timesteps._tables import normalised

_CONVERGED = 1e-4  # increment of sigma_t per 1/1000 of the process below which the authors' code draws less often


class SpeeD(TimestepDistribution):
    """t drawn k times as often before tau as from tau on, where x_t hardly changes (Wang et al., 2024, 2405.17403).

    Without `tau`, the convergence area begins as in the authors' code for T = 1000: at the first t after the steepest
    where sigma_t = √(1 - alphas_cumprod) grows by less than 1e-4 per 1/1000 of the process, which is 641 on the linear
    schedule with T = 1000. If a schedule never reaches this, such as sigmoid's default, there is no convergence area
    and t is uniform. This is only SpeeD's sampling, without its weighting and without the mirrored second half of a
    batch in the authors' code. It is part of the objective.
    """

    class Options(PluginOptions):
        """The options of SpeeD's sampling."""

        k: float = Field(5.0, ge=1, description="how many times as often a t before tau is drawn")
        tau: int | None = Field(
            None, ge=1, description="first t of the convergence area (default: derived from the schedule)"
        )

    options: Options

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return k/(T + tau (k - 1)) before tau and 1/(T + tau (k - 1)) from tau on, float64 [T].

        Raises:
            UsageError: if tau lies beyond the schedule's timesteps.
        """
        num_timesteps = len(context.snr)
        tau = convergence_start(context.snr) if self.options.tau is None else self.options.tau
        if tau > num_timesteps:
            raise UsageError(
                f"timesteps 'speed': tau={tau} lies beyond the schedule's {num_timesteps} timesteps. "
                f"Choose tau from 1 to {num_timesteps}, or leave it out to derive it from the schedule"
            )
        table = torch.ones_like(context.snr, dtype=torch.float64)
        table[:tau] = self.options.k
        return normalised(table)


def convergence_start(snr: Tensor) -> int:
    """The first t after the steepest at which sigma_t grows by less than 1e-4 per T/1000 steps; T if there is none.

    `snr` is float64 [T]. The search starts at the steepest t because some schedules begin as flat as they end.
    """
    increments = torch.gradient((1 + snr).rsqrt())[0] * (len(snr) / 1000)
    steepest = int(increments.argmax())
    flat = (increments[steepest:] < _CONVERGED).nonzero().flatten()
    return steepest + int(flat[0]) if len(flat) else len(snr)
