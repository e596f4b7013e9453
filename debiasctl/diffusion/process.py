"""The variance-preserving diffusion process: float64 tables over t = 0 … T - 1, and what lies between them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import Process, Schedule
from debiasctl.api.schedules import interpolated
from debiasctl.boundary import name_of
from debiasctl.errors import UsageError

Curve = Callable[[Tensor], Tensor]  # log-SNR, float64 [N], at timesteps [N] and between them
_EDGE = 1e-9  # of a timestep, kept away from the ends of u, where a schedule's SNR may be infinite or 0
_HALVINGS = 60  # of a timestep, which a float64 cannot halve more often


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


def process_of(schedule: Schedule) -> "DiffusionProcess":
    """The process of a schedule plugin, rescaled to zero terminal SNR if its options ask for it.

    A rescaled schedule that is a function or continuous is rescaled between its timesteps too, where √alphas_cumprod
    falls to 0 although log-SNR has no end; from the last timestep on, all is noise.

    Raises:
        UsageError: if the table is not a noise schedule.
    """
    table, options, place = schedule.alphas_cumprod(), schedule.options, schedule.place
    size, is_function = options.num_timesteps, type(schedule).log_snr is not Schedule.log_snr

    def own(t: Tensor) -> Tensor:
        return schedule.log_snr(((t + place) / size).clamp(0, 1))

    curve: Curve | None = own if is_function else None
    log_snr = None
    if options.zero_terminal_snr:
        if is_function or options.continuous:
            curve = _rescaled(own, table)
        table = rescale_zero_terminal_snr(table)
    elif is_function and inspect.unwrap(type(schedule).alphas_cumprod) is Schedule.derived_table:
        log_snr = own(torch.arange(size, dtype=torch.float64))
    try:
        return DiffusionProcess(table, continuous=options.continuous, curve=curve, place=place, log_snr=log_snr)
    except UsageError as error:
        raise UsageError(f"{name_of(schedule, 'schedule')}: {error}") from error


def _rescaled(curve: Curve, table: Tensor) -> Curve:
    """A curve as `rescale_zero_terminal_snr` changes it at the timesteps; before the first it stays as it is."""
    first, last = table[0].sqrt(), table[-1].sqrt()

    def rescaled(t: Tensor) -> Tensor:
        log_snr = curve(t)
        alpha = (torch.sigmoid(log_snr).sqrt() - last).clamp(min=0) * first / (first - last)
        return torch.where(t < 0, log_snr, torch.logit(alpha.square()))

    return rescaled


def process_behind(given: Process) -> "DiffusionProcess":
    """A denoiser's process, as a sampler sees it: its own, or that of its table if it has nothing else."""
    behind = given if isinstance(given, DiffusionProcess) else getattr(given, "process", None)
    return behind if isinstance(behind, DiffusionProcess) else DiffusionProcess(given.alphas_cumprod)


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

    EDM's x0 + sigma eps is the same process, in units of √(1 + sigma²), and rectified flow's (1 - s) x0 + s eps is
    x_t/(alpha + sigma). With `continuous`, training draws t from [-place, T - place). Between timesteps log-SNR is that
    of `curve` or, without one, linear in t. `log_snr` [T] gives the table's own to all digits, where it is known.

    Every table is float64 [T] on the CPU: betas, alphas, alphas_cumprod, alphas_cumprod_prev, alpha, sigma, snr,
    log_snr, posterior_mean_coef_x0, posterior_mean_coef_x_t, posterior_variance.
    """

    def __init__(
        self,
        alphas_cumprod: Tensor,
        *,
        continuous: bool = False,
        curve: Curve | None = None,
        place: float = 0.5,
        log_snr: Tensor | None = None,
    ) -> None:
        table = alphas_cumprod.detach().to("cpu", torch.float64)
        if table.ndim != 1 or len(table) < 1:
            raise UsageError(f"alphas_cumprod must be a table [T], not of shape {tuple(table.shape)}")
        previous = torch.cat([table.new_ones(1), table[:-1]])
        if not bool(torch.isfinite(table).all()) or not bool(((table < previous) & (table >= 0)).all()):
            raise UsageError(
                "alphas_cumprod must fall strictly from below 1 to 0 or above; check the schedule's options"
            )
        self.continuous, self.place, self._curve = continuous, place, curve
        self.alphas_cumprod, self.alphas_cumprod_prev = table, previous
        self.alphas = table / previous
        self.betas = 1 - self.alphas
        self.alpha, self.sigma = table.sqrt(), (1 - table).sqrt()
        self.snr = table / (1 - table)
        self.log_snr = self.snr.log()
        if log_snr is not None:  # 1 - alphas_cumprod has lost digits where there is little noise
            self.alpha, self.sigma = torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
            self.snr, self.log_snr = log_snr.exp(), log_snr
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
        log_snr = self.log_snr_at(t)
        whole = t == nearest
        return NoiseLevels(
            t,
            torch.where(whole, self.alpha[nearest], torch.sigmoid(log_snr).sqrt()),
            torch.where(whole, self.sigma[nearest], torch.sigmoid(-log_snr).sqrt()),
            torch.where(whole, self.snr[nearest], log_snr.exp()),
        )

    def log_snr_at(self, t: Tensor) -> Tensor:
        """The log-SNR, float64 [N], at t [N], which may lie between timesteps, by the schedule's function or table."""
        return interpolated(self.log_snr, t) if self._curve is None else self._curve(t.to(torch.float64))

    def drawn(self, timestep: Tensor, within: Tensor) -> Tensor:
        """The t, float64 [N], at the part `within` [N] of each timestep's share of a continuous schedule."""
        t = timestep - self.place + within
        if self._curve is None:
            return t
        return t.clamp(-self.place + _EDGE, self.num_timesteps - self.place - _EDGE)

    def timestep_of(self, log_snr: Tensor) -> Tensor:
        """The t, float64 [N] and possibly fractional, at which the log-SNR [N] is reached, clamped to the table's ends.

        A last timestep with an SNR of 0 is never returned.
        """
        rising = self.log_snr[torch.isfinite(self.log_snr)].flip(0)
        value = log_snr.to("cpu", torch.float64).clamp(rising[0], rising[-1])
        above = torch.searchsorted(rising, value).clamp(min(1, len(rising) - 1), len(rising) - 1)
        below = (above - 1).clamp(min=0)
        gap = (rising[above] - rising[below]).clamp(min=torch.finfo(torch.float64).tiny)
        t = len(rising) - 1 - (below + (value - rising[below]) / gap)
        return t if self._curve is None else self._found(value, self._curve, t.ceil() - 1, t.floor() + 1)

    def _found(self, value: Tensor, curve: Curve, low: Tensor, high: Tensor) -> Tensor:
        """The t, float64 [N], between `low` and `high` where a curve has that value, by bisection; whole t exactly."""
        low, high = low.clamp(min=0), high.clamp(max=self.num_timesteps - 1)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_noisier = curve(middle) < value
            low, high = torch.where(is_noisier, low, middle), torch.where(is_noisier, middle, high)
        nearest = low.round()
        return torch.where(self.log_snr[nearest.long()] == value, nearest, low)

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
