"""Denoisers made of others, such as two of them stitched at a noise level."""

from collections.abc import Callable

import torch
from torch import Tensor

from debiasctl.api import Denoiser, Estimate
from debiasctl.diffusion.parameterization import convert
from debiasctl.diffusion.process import DiffusionProcess, process_behind
from debiasctl.errors import UsageError

X0Function = Callable[[Tensor, float, Tensor | None], Tensor]


class Composed:
    """A denoiser of the process `process`, as samplers and `Drawer` take it; subclasses say what it estimates."""

    def __init__(self, process: DiffusionProcess, *, null_label: int | None) -> None:
        self.process, self.null_label = process, null_label
        self.alphas_cumprod, self.num_timesteps = process.alphas_cumprod, process.num_timesteps
        self.nfe = 0

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W], all at timestep t."""
        raise NotImplementedError

    def from_x0(self, x0: Tensor, x_t: Tensor, t: float, variance_fraction: Tensor | None = None) -> Estimate:
        """The estimate that x0 [N, C, H, W] at timestep t is, in x_t's dtype: eps and v follow from it."""
        levels = self.process.levels(torch.tensor([t], dtype=torch.float64))
        found = convert(x0.to(x_t.dtype), "x0", x_t=x_t, alpha=levels.alpha[0], sigma=levels.sigma[0])
        return Estimate(found.x0, found.eps, found.v, variance_fraction)


class Stitched(Composed):
    """`above` where there is more noise than at timestep `threshold`, and `below` from there to the image.

    A step of a sampler is `above`'s if it begins at t > `threshold`; no threshold below 0 leaves `below` anything.

    Raises:
        UsageError: if the two are of different processes.
    """

    def __init__(self, above: Denoiser, below: Denoiser, *, threshold: float) -> None:
        process, other = process_behind(above), process_behind(below)
        if process.log_snr.shape != other.log_snr.shape or not torch.equal(process.log_snr, other.log_snr):
            raise UsageError(
                "two networks of different schedules cannot be stitched: a timestep is another noise level in each. "
                "Choose runs of one schedule"
            )
        super().__init__(process, null_label=above.null_label)
        self.above, self.below, self.threshold = above, below, threshold

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Return what `above` or `below` estimates."""
        self.nfe += 1
        return (self.above if t > self.threshold else self.below)(x_t, t, labels)
