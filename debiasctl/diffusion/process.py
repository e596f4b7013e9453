"""The variance-preserving diffusion process as float64 tables over t = 0 … T - 1."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from debiasctl.boundary import name_of
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.api import Schedule


def alphas_cumprod_from_betas(betas: Tensor) -> Tensor:
    """Return cumprod(1 - betas), float64 [T].

    Raises:
        UsageError: if a beta is not in (0, 1), as happens when a small number of timesteps scales them up.
    """
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise UsageError(
            f"the schedule's betas run from {betas.min().item():.4g} to {betas.max().item():.4g} and must stay "
            f"between 0 and 1: with {len(betas)} timesteps, lower beta_end or raise num_timesteps"
        )
    return torch.cumprod(1 - betas, dim=0)


def alphas_cumprod_from_function(curve: Tensor, *, max_beta: float) -> Tensor:
    """The table [T] for a curve of alphas_cumprod at T + 1 points, betas clipped at max_beta (2102.09672, Eq. 17)."""
    return alphas_cumprod_from_betas((1 - curve[1:] / curve[:-1]).clamp(max=max_beta))


def rescale_zero_terminal_snr(alphas_cumprod: Tensor) -> Tensor:
    """Shift and scale √alphas_cumprod: the last value becomes 0, the first stays (Lin et al., 2305.08891, Alg. 1)."""
    alpha = alphas_cumprod.sqrt()
    first, last = alpha[0], alpha[-1]
    return ((alpha - last) * first / (first - last)) ** 2


def process_of(schedule: "Schedule") -> "DiffusionProcess":
    """The process of a schedule plugin, rescaled to zero terminal SNR if its options ask for it.

    Raises:
        UsageError: if the table is not a noise schedule, or its options contradict one another.
    """
    table, options = schedule.alphas_cumprod(), schedule.options
    if options.zero_terminal_snr:
        if options.continuous:
            raise UsageError(
                "a schedule cannot be continuous and have zero terminal SNR: no log-SNR lies between its last two "
                "timesteps, as the last one's is minus infinity. Leave out continuous or zero_terminal_snr"
            )
        table = rescale_zero_terminal_snr(table)
    try:
        return DiffusionProcess(table, continuous=options.continuous)
    except UsageError as error:
        raise UsageError(f"{name_of(schedule, 'schedule')}: {error}") from error


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels of N images: t (whole, or between timesteps) and its float64 values [N] on the CPU."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor
    snr: Tensor

    def __getitem__(self, part: slice) -> "NoiseLevels":
        """The noise levels of some of the images."""
        return NoiseLevels(self.t[part], self.alpha[part], self.sigma[part], self.snr[part])


class DiffusionProcess:
    """x_t = alpha_t x0 + sigma_t eps with alpha² = alphas_cumprod and alpha² + sigma² = 1 (DDPM, Eq. 4).

    EDM's x0 + sigma eps is the same process, in units of √(1 + sigma²). With `continuous`, training draws t from
    [-1/2, T - 1/2), and log-SNR between timesteps (and half a step beyond the ends) is linear in t.

    Every table is float64 [T] on the CPU: betas, alphas, alphas_cumprod, alphas_cumprod_prev, alpha, sigma, snr,
    log_snr, posterior_mean_coef_x0, posterior_mean_coef_x_t, posterior_variance.
    """

    def __init__(self, alphas_cumprod: Tensor, *, continuous: bool = False) -> None:
        table = alphas_cumprod.detach().to("cpu", torch.float64)
        if table.ndim != 1 or len(table) < 1:
            raise UsageError(f"alphas_cumprod must be a table [T], not of shape {tuple(table.shape)}")
        previous = torch.cat([table.new_ones(1), table[:-1]])
        if not bool(torch.isfinite(table).all()) or not bool(((table < previous) & (table >= 0)).all()):
            raise UsageError(
                "alphas_cumprod must fall strictly from below 1 to 0 or above; check the schedule's options"
            )
        self.continuous = continuous
        self.alphas_cumprod, self.alphas_cumprod_prev = table, previous
        self.alphas = table / previous
        self.betas = 1 - self.alphas
        self.alpha, self.sigma = table.sqrt(), (1 - table).sqrt()
        self.snr = table / (1 - table)
        self.log_snr = self.snr.log()
        # DDPM, Eq. 7
        self.posterior_mean_coef_x0 = previous.sqrt() * self.betas / (1 - table)
        self.posterior_mean_coef_x_t = self.alphas.sqrt() * (1 - previous) / (1 - table)
        self.posterior_variance = self.betas * (1 - previous) / (1 - table)

    @property
    def num_timesteps(self) -> int:
        """The number of timesteps T."""
        return len(self.alphas_cumprod)

    def levels(self, t: Tensor) -> NoiseLevels:
        """The noise levels at t [N], which is int64 for whole timesteps and float64 between them."""
        t = t.to("cpu")
        if not t.is_floating_point():
            return NoiseLevels(t, self.alpha[t], self.sigma[t], self.snr[t])
        nearest = t.round().long().clamp(0, self.num_timesteps - 1)
        below = t.floor().long().clamp(0, max(0, self.num_timesteps - 2))
        above = (below + 1).clamp(max=self.num_timesteps - 1)
        log_snr = torch.lerp(self.log_snr[below], self.log_snr[above], t.to(torch.float64) - below)
        whole = t == nearest
        return NoiseLevels(
            t,
            torch.where(whole, self.alpha[nearest], torch.sigmoid(log_snr).sqrt()),
            torch.where(whole, self.sigma[nearest], torch.sigmoid(-log_snr).sqrt()),
            torch.where(whole, self.snr[nearest], log_snr.exp()),
        )

    def timestep_of(self, log_snr: Tensor) -> Tensor:
        """The t, float64 [N] and possibly fractional, at which the log-SNR [N] is reached, clamped to the table's ends.

        A last timestep with an SNR of 0 is never returned.
        """
        rising = self.log_snr[torch.isfinite(self.log_snr)].flip(0)
        value = log_snr.to("cpu", torch.float64).clamp(rising[0], rising[-1])
        above = torch.searchsorted(rising, value).clamp(min(1, len(rising) - 1), len(rising) - 1)
        below = (above - 1).clamp(min=0)
        gap = (rising[above] - rising[below]).clamp(min=torch.finfo(torch.float64).tiny)
        return len(rising) - 1 - (below + (value - rising[below]) / gap)

    def add_noise(self, x0: Tensor, eps: Tensor, levels: NoiseLevels) -> Tensor:
        """Return x_t for images and noise [N, C, H, W] at N noise levels, in x0's dtype (DDPM, Eq. 4)."""
        alpha, sigma = per_image(levels.alpha, levels.sigma, like=x0)
        return alpha * x0 + sigma * eps

    def posterior(self, x0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The mean [N, C, H, W] and variance [N, 1, 1, 1] of q(x_{t-1} | x_t, x0) (DDPM, Eqs. 6 and 7)."""
        mean_x0, mean_x_t = at(self.posterior_mean_coef_x0, t, like=x0), at(self.posterior_mean_coef_x_t, t, like=x0)
        return mean_x0 * x0 + mean_x_t * x_t, at(self.posterior_variance, t, like=x0)


def per_image(*values: Tensor, like: Tensor) -> tuple[Tensor, ...]:
    """Reshape float64 values [N] to [N, 1, 1, 1], then cast and move them to `like`'s dtype and device."""
    moved = torch.stack(values).to(like.dtype).to(like.device, non_blocking=True)
    return tuple(value.reshape(-1, *[1] * (like.ndim - 1)) for value in moved)


def at(table: Tensor, t: Tensor, *, like: Tensor) -> Tensor:
    """Look up table[t] in float64, and return it as [N, 1, 1, 1] in `like`'s dtype and device."""
    return per_image(table[t.to(table.device)], like=like)[0]
