"""A denoiser with a weaker one that guidance steers away from: autoguidance (Karras et al., arXiv 2406.02507)."""

import math

import torch
from torch import Tensor

from debiasctl.api import Denoiser, Estimate
from debiasctl.diffusion.process import DiffusionProcess, process_behind
from debiasctl.errors import UsageError

_SLACK = 1e-9  # of a log-SNR that was computed


class Guided:
    """A denoiser that estimates as `main` does, and beside it has a `weak` one for samplers with guidance.

    `nfe` counts the forwards of both. The weak one is asked at the same log-SNR, whatever its schedule and prediction
    type: with alpha² + sigma² = 1 in both, the same images are then x_t of both processes. With `unconditional` it is
    given no class.
    """

    def __init__(self, main: Denoiser, weak: Denoiser, *, unconditional: bool = False) -> None:
        self.main, self.weak, self.unconditional = main, weak, unconditional
        self.process, self._weak_process = process_behind(main), process_behind(weak)
        self.alphas_cumprod, self.num_timesteps = self.process.alphas_cumprod, self.process.num_timesteps
        self.null_label = main.null_label

    @property
    def nfe(self) -> int:
        """The forwards of both networks."""
        return self.main.nfe + self.weak.nfe

    @nfe.setter
    def nfe(self, value: int) -> None:
        self.main.nfe, self.weak.nfe = value, 0

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W], all at timestep t, by the main network alone."""
        return self.main(x_t, t, labels)

    def weaker(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Return the weak network's estimate for the same images, t and labels.

        Raises:
            UsageError: if its schedule has no level with this log-SNR.
        """
        return self.weak(x_t, timestep_alike(self.process, self._weak_process, t), self._labels_for_weak(x_t, labels))

    def _labels_for_weak(self, x_t: Tensor, labels: Tensor | None) -> Tensor | None:
        """The labels as given, those of no class, or None for a network without labels."""
        if not self.unconditional:
            return labels
        if self.weak.null_label is None:
            return None
        return torch.full((len(x_t),), self.weak.null_label, dtype=torch.int64, device=x_t.device)


def timestep_alike(process: DiffusionProcess, other: DiffusionProcess, t: float) -> float:
    """The t at which `other` has the log-SNR that `process` has at `t`; where it has it at `t` too, that is `t`.

    Raises:
        UsageError: if it has it nowhere.
    """
    at = torch.tensor([t], dtype=torch.float64)
    log_snr = _log_snr(process, at)
    if _within(other, t) and _log_snr(other, at) == log_snr:
        return t
    if log_snr == -math.inf and other.snr[-1] == 0:
        return other.num_timesteps - 1.0
    low, high = _reach(other)
    if not low - _SLACK <= log_snr <= high + _SLACK:
        raise UsageError(
            f"the guide's schedule has no noise level with sigma/alpha = {_ratio(log_snr):.4g}: its own run from "
            f"{_ratio(high):.4g} to {_ratio(low):.4g}. Guide within these alone (the sampler's option "
            "guidance_interval), or by a run of the same schedule"
        )
    return float(other.timestep_of(torch.tensor([log_snr], dtype=torch.float64)))


def _log_snr(process: DiffusionProcess, t: Tensor) -> float:
    return float(process.levels(t).snr.log())


def _within(process: DiffusionProcess, t: float) -> bool:
    low, high = 0.0, process.num_timesteps - 1.0
    if process.continuous:
        low, high = -process.place, process.num_timesteps - process.place
    return low <= t <= high


def _reach(process: DiffusionProcess) -> tuple[float, float]:
    """The least and the greatest finite log-SNR of the table."""
    finite = process.log_snr[torch.isfinite(process.log_snr)]
    return float(finite[-1]), float(finite[0])


def _ratio(log_snr: float) -> float:
    """Sigma/alpha."""
    return math.exp(-log_snr / 2) if log_snr > -math.inf else math.inf
