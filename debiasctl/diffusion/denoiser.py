"""A trained network as a denoiser, which maps (x_t, t) to estimates of x0, eps and v."""

import torch
from torch import Tensor, nn

from debiasctl.api import Estimate
from debiasctl.diffusion.parameterization import Output, Parameterization
from debiasctl.errors import UsageError

_SLACK = 1e-6  # of a t that was computed


class NetworkDenoiser:
    """Network, process and parameterization in one; `nfe` counts forward passes. See `debiasctl.api.Denoiser`.

    With `autocast`, only the network runs in that precision; everything else stays in x_t's dtype.
    """

    def __init__(
        self,
        network: nn.Module,
        parameterization: Parameterization,
        *,
        null_label: int | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.network, self.parameterization = network, parameterization
        self.null_label, self.autocast = null_label, autocast
        self.process = parameterization.process
        self.alphas_cumprod, self.num_timesteps = self.process.alphas_cumprod, self.process.num_timesteps
        self.nfe = 0

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W], all at timestep t; `labels` is int64 [N] if conditional.

        Raises:
            UsageError: if t is not one number, or beyond the schedule's ends.
        """
        t = self._checked(t)
        self.nfe += 1
        levels = self.process.levels(torch.full((x_t.shape[0],), t, dtype=torch.float64))
        with torch.autocast(x_t.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            output = self.parameterization.run(self.network, x_t, levels, labels)
        fraction = output.variance_fraction
        output = Output(output.prediction.to(x_t.dtype), None if fraction is None else fraction.to(x_t.dtype))
        return self.parameterization.estimate(output, x_t, levels)

    def _checked(self, t: float) -> float:
        try:
            value = float(t)
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(f"t is a {type(t).__name__}: give one number for all of x_t") from None
        low, high = 0.0, self.num_timesteps - 1.0
        if self.process.continuous:
            low, high = -self.process.place, self.num_timesteps - self.process.place
        if not low - _SLACK <= value <= high + _SLACK:
            raise UsageError(f"t = {value:g}: timesteps run from {low:g} to {high:g}")
        return value
