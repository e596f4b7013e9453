"""DDIM sampling."""

from collections.abc import Callable

from pydantic import Field
from torch import Tensor

from debiasctl.api import Denoiser, PluginOptions
from debiasctl.diffusion.process import DiffusionProcess


class DDIM:
    """Implicit sampling, deterministic at eta 0 (Song et al., 2021, arXiv 2010.02502, Eq. 12), on ADM's spacing."""

    class Options(PluginOptions):
        """Options of DDIM."""

        eta: float = Field(0.0, ge=0, le=1, description="noise added at each step, as a share of DDPM's")
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
            previous = process.alphas_cumprod_prev[index]
            x0, eps = estimate.x0, estimate.eps
            if self.options.clip_x0:
                x0 = x0.clamp(-1, 1)
                eps = (x - process.alpha[index].item() * x0) / process.sigma[index].item()
            variance = self.options.eta**2 * process.posterior_variance[index]  # Eq. 16
            x = previous.sqrt().item() * x0 + (1 - previous - variance).clamp(min=0).sqrt().item() * eps
            if index > 0 and variance > 0:
                x = x + variance.sqrt().item() * noise(done)
            if on_step:
                on_step(done)
        return x
