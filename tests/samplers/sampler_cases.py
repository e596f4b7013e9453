"""What the samplers' tests share: denoisers known in closed form, and how a sampler treats each of its inputs."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Estimate, Sampler
from debiasctl.diffusion.grid import noise_grid
from debiasctl.diffusion.parameterization import convert
from debiasctl.diffusion.process import DiffusionProcess, process_of


def process(ref: str = "linear") -> DiffusionProcess:
    resolved = registry.resolve("schedules", ref)
    return process_of(resolved.create(), resolved.options)


def uniform_timesteps(num_steps: int) -> list[int]:
    """Of the default process and spacing, the noisiest first."""
    return [int(level.t) for level in noise_grid(process(), num_steps, spacing="uniform")[:-1]]


@dataclass
class KnownDenoiser:
    """x0_hat as a given function of (x_t, alpha, sigma); keeps every x_t and t that it is asked for."""

    process: DiffusionProcess
    image: Callable[[Tensor, float, float], Tensor]
    nfe: int = 0
    asked: list[tuple[Tensor, float]] = field(default_factory=list)
    labels: list[Tensor | None] = field(default_factory=list)
    null_label: int | None = None

    @property
    def num_timesteps(self) -> int:
        return self.process.num_timesteps

    @property
    def alphas_cumprod(self) -> Tensor:
        return self.process.alphas_cumprod

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        self.nfe += 1
        self.asked.append((x_t.clone(), t))
        self.labels.append(labels)
        levels = self.process.levels(torch.tensor([t], dtype=torch.float64))
        alpha, sigma = levels.alpha[0], levels.sigma[0]
        return convert(self.image(x_t, alpha.item(), sigma.item()), "x0", x_t=x_t, alpha=alpha, sigma=sigma)


def gaussian(process: DiffusionProcess, *, mean: float, std: float) -> KnownDenoiser:
    """The exact denoiser of pixels x0 ~ N(mean, std²): E[x0 | x_t]."""

    def image(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
        return mean + gain * (x_t - alpha * mean)

    return KnownDenoiser(process, image)


def crooked(process: DiffusionProcess) -> KnownDenoiser:
    """No exact denoiser of anything, with estimates on both sides of ±1."""
    return KnownDenoiser(process, lambda x_t, alpha, sigma: 1.5 * torch.sin(2 * x_t + 3 * sigma) + 0.3 * alpha)


def random_x(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbered_noise(shape: tuple[int, ...]) -> Callable[[int], Tensor]:
    """The same noise for step k whenever it is asked for."""
    return lambda k: random_x(*shape, seed=1000 + k)


def no_noise(k: int) -> Tensor:
    raise AssertionError(f"noise({k}) was asked for")


@dataclass(frozen=True)
class Moments:
    """Mean and variance of one pixel at each noise level that the sampler visits, and of its result; exact."""

    means: list[float]
    variances: list[float]


def moments(sampler: Sampler, denoiser: KnownDenoiser, *, num_steps: int, mean: float, variance: float) -> Moments:
    """Follow a sampler that is affine in x_T and its noises, as it is where the denoiser is affine and nothing clips.

    One image is all zeros (the offset), one has x_T = 1, and one noise(k) = 1 for each k: their responses are the
    coefficients, so mean and variance follow without sampling error. x_T has the given mean and variance.
    """
    x = torch.zeros(num_steps + 2, 1, 1, 1, dtype=torch.float64)
    x[1] = 1

    def noise(k: int) -> Tensor:
        z = torch.zeros_like(x)
        z[1 + k] = 1
        return z

    result = sampler(denoiser, x, num_steps=num_steps, noise=noise)
    levels = [*(x_t for x_t, _ in denoiser.asked), result]
    offsets = [level[0].item() for level in levels]
    gains = [(level[1:] - level[0]).flatten() for level in levels]
    return Moments(
        [offset + gain[0].item() * mean for offset, gain in zip(offsets, gains, strict=True)],
        [gain[0].item() ** 2 * variance + gain[1:].square().sum().item() for gain in gains],
    )
