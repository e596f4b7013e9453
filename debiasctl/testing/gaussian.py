"""A denoiser whose images' law is known, to test samplers with."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Estimate
from debiasctl.diffusion import DiffusionProcess, process_of


class GaussianDenoiser:
    """The best denoiser of images whose values are independent and normal, in closed form (`debiasctl.api.Denoiser`).

    Every value of an image has the mean `mean` and the standard deviation `std`; with several means there is one for
    each class, and labels are needed. `null_label` is then the number after the last class, which stands for all
    classes together and has the means' average. The probability-flow ODE maps noise x at the first level to
    mean + std z, where z is x in units of its standard deviation there (`expected`). `calls` holds t and the labels of
    every call.
    """

    def __init__(
        self,
        mean: float | Sequence[float] = 0.1,
        std: float = 0.25,
        *,
        schedule: str = "linear",
    ) -> None:
        self.means = torch.tensor([mean] if isinstance(mean, int | float) else list(mean), dtype=torch.float64)
        self.std = std
        self.process: DiffusionProcess = process_of(registry.create("schedules", schedule))
        self.num_timesteps, self.alphas_cumprod = self.process.num_timesteps, self.process.alphas_cumprod
        self.num_classes = 0 if isinstance(mean, int | float) else len(self.means)
        self.null_label: int | None = self.num_classes or None
        self.nfe = 0
        self.calls: list[tuple[float, Tensor | None]] = []

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W] at timestep t.

        Raises:
            ValueError: if labels are given where there are no classes, or are missing or of another form where there
                are, or t is beyond the schedule's ends.
        """
        self._check(x_t, t, labels)
        self.nfe += 1
        self.calls.append((float(t), None if labels is None else labels.clone()))
        level = self.process.levels(torch.tensor([float(t)], dtype=torch.float64))
        alpha, sigma = (float(value) for value in (level.alpha, level.sigma))
        mean = self._means(x_t, labels)
        away = (x_t.double() - alpha * mean) / self._variance(alpha, sigma)
        x0, eps = mean + alpha * self.std**2 * away, sigma * away
        v = alpha * eps - sigma * x0
        return Estimate(x0.to(x_t.dtype), eps.to(x_t.dtype), v.to(x_t.dtype))

    def expected(self, x: Tensor, t: float, labels: Tensor | None = None) -> Tensor:
        """The images that the probability-flow ODE makes of x [N, C, H, W] at timestep t."""
        level = self.process.levels(torch.tensor([float(t)], dtype=torch.float64))
        alpha, sigma = (float(value) for value in (level.alpha, level.sigma))
        mean = self._means(x, labels)
        images = mean + self.std * (x.double() - alpha * mean) / math.sqrt(self._variance(alpha, sigma))
        return images.to(x.dtype)

    def _variance(self, alpha: float, sigma: float) -> float:
        return alpha**2 * self.std**2 + sigma**2

    def _means(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """The mean of each image, [N, 1, 1, 1] or [1]."""
        if labels is None:
            return self.means.mean(dim=0, keepdim=True).to(x.device)
        return torch.cat([self.means, self.means.mean(dim=0, keepdim=True)]).to(x.device)[labels].view(-1, 1, 1, 1)

    def _check(self, x_t: Tensor, t: float, labels: Tensor | None) -> None:
        low, high = 0.0, self.num_timesteps - 1.0
        if self.process.continuous:
            low, high = -self.process.place, self.num_timesteps - self.process.place
        if not low - 1e-6 <= float(t) <= high + 1e-6:
            raise ValueError(f"the denoiser was called at t={t}, and timesteps run from {low:g} to {high:g}")
        if labels is None:
            if self.num_classes:
                raise ValueError("the denoiser was called without the labels, which the sampler was given")
            return
        if not self.num_classes:
            raise ValueError("the denoiser was called with labels, and the sampler was given none")
        if labels.dtype != torch.int64 or labels.shape != (len(x_t),):
            raise ValueError(f"the denoiser was called with labels {labels.dtype} {list(labels.shape)}")
