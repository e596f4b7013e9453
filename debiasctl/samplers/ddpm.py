"""Ancestral sampling."""

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import Denoiser, PluginOptions
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.diffusion.variance import log_variance
from debiasctl.errors import UsageError


class DDPM:
    """Ancestral sampling (Ho et al., 2020, arXiv 2006.11239, Alg. 2), respaced as in arXiv 2102.09672, §4."""

    class Options(PluginOptions):
        """Options of DDPM."""

        variance: Literal["fixed-small", "fixed-large", "learned"] = Field(
            "fixed-small",
            description="the posterior's variance, beta (fixed-large; worse with few steps), or the one learned",
        )
        clip_x0: bool = Field(True, description="clip each estimate of x0 to [-1, 1]")

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        *,
        num_steps: int,
        noise: Callable[[int], Tensor],
        labels: Tensor | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Float [N, C, H, W]; see `debiasctl.api.Sampler`."""
        timesteps, process = DiffusionProcess(denoiser.alphas_cumprod).respaced(num_steps)
        for done, index in enumerate(reversed(range(num_steps)), start=1):
            estimate = denoiser(x, timesteps[index], labels)
            x0 = estimate.x0.clamp(-1, 1) if self.options.clip_x0 else estimate.x0
            step = torch.tensor([index])
            x, variance = process.posterior(x0, x, step)
            if self.options.variance == "fixed-large":
                variance = process.betas[index].to(x.device, x.dtype)
            elif self.options.variance == "learned":
                if estimate.variance_fraction is None:
                    raise UsageError(
                        "ddpm:variance=learned needs a model trained with --set model.learned_variance=true; "
                        "for this one choose variance=fixed-small or fixed-large"
                    )
                variance = log_variance(process, estimate.variance_fraction, step).exp()
            if index > 0:
                x = x + variance.sqrt() * noise(done)
            if on_step:
                on_step(done)
        return x
