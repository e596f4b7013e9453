"""What the samplers' tests share: denoisers known in closed form, and how a sampler treats each of its inputs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from debiasctl import registry
from debiasctl.api import Denoiser, Estimate, Sampler, Space
from debiasctl.builtin.samplers.ddim import DDIM
from debiasctl.builtin.samplers.ddpm import DDPM
from debiasctl.builtin.samplers.dpm_solver import DPMSolver
from debiasctl.builtin.samplers.dpm_solver_pp import DPMSolverPP
from debiasctl.builtin.samplers.euler import Euler
from debiasctl.builtin.samplers.heun import Heun
from debiasctl.builtin.samplers.unipc import UniPC
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.grid import RHO, Level, levels_at, noise_grid
from debiasctl.diffusion.grid_sampler import GridSampler, Model, Noise
from debiasctl.diffusion.parameterization import Parameterization, convert, target
from debiasctl.diffusion.process import DiffusionProcess, per_image, process_of

SAMPLERS = {
    "ddpm": DDPM,
    "ddim": DDIM,
    "dpm-solver": DPMSolver,
    "dpm-solver++": DPMSolverPP,
    "unipc": UniPC,
    "euler": Euler,
    "heun": Heun,
}


def sampler(name: str, **options: object) -> GridSampler:
    """Without clipping unless it is asked for."""
    kind = SAMPLERS[name]
    return kind(kind.Options(**{"clip_x0": False, **options}))


def process(ref: str = "linear") -> DiffusionProcess:
    return process_of(registry.create("schedules", ref))


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


def finite_grid(
    process: DiffusionProcess,
    num_steps: int,
    *,
    spacing: Literal["log-snr", "karras"],
    first: float = -4,
    last: float = 3,
) -> list[Level]:
    """Levels from half-log-SNR `first` to `last`, both finite and neither a timestep."""
    share = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    if spacing == "log-snr":
        half_log_snr = first + share * (last - first)
    else:
        start, end = math.exp(-first / RHO), math.exp(-last / RHO)
        half_log_snr = -RHO * torch.log(start + share * (end - start))
    return levels_at(process, process.timestep_of(2 * half_log_snr).tolist())


def walk(sampler: GridSampler, denoiser: Denoiser, x: Tensor, grid: Sequence[Level], noise: Noise) -> list[Tensor]:
    """The images at each level of the grid after the first."""
    return [step.x for step in sampler.steps(Model(denoiser, sampler.options), x, grid, noise)]


PIXEL_MEANS = torch.tensor([0.3, -0.5, 0.0, 0.8], dtype=torch.float64).reshape(1, 2, 2)
PIXEL_STDS = torch.tensor([0.3, 0.5, 0.8, 1.2], dtype=torch.float64).reshape(1, 2, 2)


class ExactNetwork(nn.Module):
    """What a network would learn from pixels N(PIXEL_MEANS, PIXEL_STDS²), as eps, x0, v or flow; told t or 1000 s."""

    def __init__(self, process: DiffusionProcess, prediction: Space) -> None:
        super().__init__()
        self.process, self.prediction = process, prediction

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        levels = self.process.levels(t)
        alpha, sigma = per_image(levels.alpha, levels.sigma, like=x_t)
        if self.prediction == "flow":
            s = (t / 1000).reshape(-1, 1, 1, 1)
            n = ((1 - s) ** 2 + s**2).sqrt()
            alpha, sigma, x_t = (1 - s) / n, s / n, x_t / n
        noise_of_mean = (x_t - alpha * PIXEL_MEANS) / (alpha**2 * PIXEL_STDS**2 + sigma**2)
        x0, eps = PIXEL_MEANS + alpha * PIXEL_STDS**2 * noise_of_mean, sigma * noise_of_mean
        return target(self.prediction, x0=x0, eps=eps, alpha=alpha, sigma=sigma)


def exact_denoiser(process: DiffusionProcess, prediction: Space) -> NetworkDenoiser:
    return NetworkDenoiser(ExactNetwork(process, prediction), Parameterization(prediction, process))


def exact_flow(x: Tensor, start: Level, end: Level) -> Tensor:
    """The probability-flow ODE's solution: it keeps (x_t - alpha mean)/sqrt(alpha² std² + sigma²)."""

    def deviation(level: Level) -> Tensor:
        return (level.alpha**2 * PIXEL_STDS**2 + level.sigma**2).sqrt()

    return end.alpha * PIXEL_MEANS + deviation(end) * (x - start.alpha * PIXEL_MEANS) / deviation(start)


PAIR_MEAN = torch.tensor([0.3, -0.4], dtype=torch.float64)
PAIR_COVARIANCE = torch.tensor([[0.25, 0.18], [0.18, 0.5]], dtype=torch.float64)


def pair_at(level: Level) -> tuple[Tensor, Tensor]:
    """Mean [2] and covariance [2, 2] of x_t for two correlated pixels."""
    noise = level.sigma**2 * torch.eye(2, dtype=torch.float64)
    return level.alpha * PAIR_MEAN, level.alpha**2 * PAIR_COVARIANCE + noise


def pair_denoiser(process: DiffusionProcess) -> KnownDenoiser:
    """The exact denoiser of images [1, 1, 2] of two correlated pixels."""

    def image(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        mean, covariance = pair_at(Level(0.0, alpha, sigma))
        gain = alpha * PAIR_COVARIANCE @ torch.linalg.inv(covariance)
        return ((x_t.reshape(-1, 2) - mean) @ gain.T + PAIR_MEAN).reshape(x_t.shape)

    return KnownDenoiser(process, image)


def pair_moments(sampler: GridSampler, denoiser: KnownDenoiser, grid: Sequence[Level]) -> tuple[Tensor, Tensor]:
    """Exact mean [2] and covariance [2, 2] of the last images, started from the right ones; see `moments`."""
    x = torch.zeros(1 + 2 * len(grid), 1, 1, 2, dtype=torch.float64)
    x[1, ..., 0] = x[2, ..., 1] = 1

    def noise(k: int) -> Tensor:
        z = torch.zeros_like(x)
        z[1 + 2 * k, ..., 0] = z[2 + 2 * k, ..., 1] = 1
        return z

    result = walk(sampler, denoiser, x, grid, noise)[-1].reshape(-1, 2)
    offset, gain, rest = result[0], (result[1:3] - result[0]).T, result[3:] - result[0]
    mean, covariance = pair_at(grid[0])
    return offset + gain @ mean, gain @ covariance @ gain.T + rest.T @ rest
