"""Gaussians, of which everything is known."""

import torch
from scipy.stats import norm, qmc
from torch import Tensor

from debiasctl.api import Estimate
from debiasctl.diffusion import DiffusionProcess, convert


def root(matrix: Tensor) -> Tensor:
    """The positive square root of a symmetric matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def covariance(size: int, *, seed: int, scale: float = 1.0) -> Tensor:
    """A covariance matrix without any structure."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(size, size, generator=generator, dtype=torch.float64) / size**0.5
    return scale * (factor @ factor.T + 0.1 * torch.eye(size, dtype=torch.float64))


def points(number: int, mean: Tensor, cov: Tensor, *, seed: int) -> Tensor:
    """Points that fill a Gaussian more evenly than chance, [number, d]."""
    uniform = qmc.Sobol(len(mean), seed=seed).random(number)
    white = torch.from_numpy(norm.ppf(uniform.clip(1e-9, 1 - 1e-9)))
    white = white - white.mean(dim=0)
    white = white @ torch.linalg.inv(root(white.T @ white / number))
    return mean + white @ root(cov)


class GaussianDenoiser:
    """E[x0 | x_t] of images [C, H, W] from N(mean, cov)."""

    null_label = None

    def __init__(self, process: DiffusionProcess, mean: Tensor, cov: Tensor) -> None:
        self.process, self.mean, self.cov = process, mean, cov
        self.alphas_cumprod, self.num_timesteps = process.alphas_cumprod, process.num_timesteps
        self.nfe = 0

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        self.nfe += 1
        levels = self.process.levels(torch.tensor([t], dtype=torch.float64))
        alpha, sigma = levels.alpha, levels.sigma
        eye = torch.eye(len(self.cov), dtype=torch.float64)
        gain = alpha * self.cov @ torch.linalg.inv(alpha**2 * self.cov + sigma**2 * eye)
        flat = x_t.double().flatten(1)
        x0 = (self.mean + (flat - alpha * self.mean) @ gain.T).reshape(x_t.shape).to(x_t.dtype)
        return convert(x0, "x0", x_t=x_t, alpha=alpha[0], sigma=sigma[0])


def conditional(mean: Tensor, cov: Tensor, matrix: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and covariance of x given `matrix` x = y."""
    gain = cov @ matrix.T @ torch.linalg.inv(matrix @ cov @ matrix.T)
    return mean + gain @ (y - matrix @ mean), cov - gain @ matrix @ cov
