"""The noise levels of a run's process at which a scheduler of diffusers calls the network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import Level, UsageError
from debiasctl.diffusion import DiffusionProcess

_NEAR = 1e-3  # of a log-SNR: schedulers compute in float32
_HALVINGS = 60


@dataclass(frozen=True)
class Place:
    """A level of the run's process, and the scheduler's own name of it: the timestep, sigma/alpha or the share s."""

    level: Level
    own: float


def at_timesteps(process: DiffusionProcess, timesteps: Sequence[float]) -> list[Place]:
    """The places at timesteps, which may lie between whole ones."""
    found = process.levels(torch.tensor(timesteps, dtype=torch.float64))
    rows = zip(timesteps, found.alpha.tolist(), found.sigma.tolist(), strict=True)
    return [Place(Level(t, alpha, sigma), t) for t, alpha, sigma in rows]


def at_shares(process: DiffusionProcess, shares: Sequence[float]) -> list[Place]:
    """The places at the shares s of rectified flow, x_s = (1 - s) x0 + s eps; the first may be noise alone, s = 1."""
    return _found(process, [2 * math.log((1 - s) / s) if 0 < s < 1 else -math.inf for s in shares], shares)


def at_ratios(process: DiffusionProcess, ratios: Sequence[float]) -> list[Place]:
    """The places at noise-to-signal ratios, EDM's sigma."""
    return _found(process, [-2 * math.log(ratio) for ratio in ratios], ratios)


def _found(process: DiffusionProcess, log_snr: Sequence[float], own: Sequence[float]) -> list[Place]:
    """The places at those log-SNRs.

    Raises:
        UsageError: if the process does not reach one of them.
    """
    wanted = torch.tensor(log_snr, dtype=torch.float64)
    last = process.num_timesteps - 1
    t = process.timestep_of(wanted.clamp(min=-1e3))
    off = ~((_log_snr(process, t) - wanted).abs() <= _NEAR)
    if bool(off.any()):
        t = torch.where(off, _halved(process, wanted), t)
    t = torch.where(torch.isinf(wanted), torch.full_like(t, last), t)
    off = ~((_log_snr(process, t) - wanted).abs() <= _NEAR) & ~(torch.isinf(wanted) & (process.snr[-1] == 0))
    if bool(off.any()):
        ratio, (least, most) = math.exp(-float(wanted[off][0]) / 2), _ends(process)
        raise UsageError(
            f"sampler 'diffusers': its scheduler visits the noise level sigma/alpha = {ratio:.4g}, and the run's run "
            f"from {least:.4g} to {most:.4g}. Choose another configuration, or another scheduler"
        )
    return [Place(one.level, name) for one, name in zip(at_timesteps(process, t.tolist()), own, strict=True)]


def _log_snr(process: DiffusionProcess, t: Tensor) -> Tensor:
    return process.levels(t).snr.log()


def _halved(process: DiffusionProcess, wanted: Tensor) -> Tensor:
    """The t where the schedule's function has these log-SNRs, from where it begins to where it ends."""
    place, size = process.place if process.continuous else 0.0, process.num_timesteps
    low = torch.full_like(wanted, -place)
    high = torch.full_like(wanted, size - place if process.continuous else size - 1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        noisier = ~(process.log_snr_at(middle) >= wanted)
        low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
    return low


def _ends(process: DiffusionProcess) -> tuple[float, float]:
    first, last = float(process.log_snr[0]), float(process.log_snr[-1])
    return math.exp(-first / 2), math.exp(-last / 2) if last > -1e3 else math.inf
