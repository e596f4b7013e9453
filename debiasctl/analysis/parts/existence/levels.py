"""The noise levels at which errors are measured: a fixed grid of log-SNRs, and the ends of the run's schedule."""

import math
from dataclasses import dataclass

import torch

from debiasctl.api import Level
from debiasctl.diffusion.grid import levels_at
from debiasctl.diffusion.process import DiffusionProcess

_GRID = [float(value) for value in range(-12, 13, 2)]  # the same for every schedule, so that levels can be compared
_APART = 0.5  # a level of the grid that is nearer to an end of the schedule gives way to it
_TERMINAL_STEP = -(2**20)  # the number of a zero terminal SNR's noise


@dataclass(frozen=True)
class Place:
    """A level, the log-SNR that it stands for in the grid, and what numbers its noise."""

    level: Level
    target: float
    key: int

    @property
    def log_snr(self) -> float:
        """Its log-SNR, which is -infinity where the SNR is 0."""
        return 2 * self.level.half_log_snr

    @property
    def name(self) -> str:
        """The name of its unit in the book."""
        return "terminal" if self.level.alpha == 0 else f"level-{self.key}"


def places_of(process: DiffusionProcess) -> list[Place]:
    """The levels from noise to image. A zero terminal SNR comes first; each is a whole timestep unless t is continuous.

    The noisiest and the cleanest level with a finite log-SNR are always among them.
    """
    finite = process.log_snr[torch.isfinite(process.log_snr)]
    low, high = finite.min().item(), finite.max().item()
    targets = [low, *(value for value in _GRID if low + _APART < value < high - _APART), high]
    t = process.timestep_of(torch.tensor(targets, dtype=torch.float64))
    if not process.continuous:
        t = t.round()
    found: dict[float, Place] = {}
    for target, level in zip(targets, levels_at(process, t.tolist()), strict=True):
        found.setdefault(level.t, Place(level, target, round(64 * target)))
    places = list(found.values())
    if bool((process.snr == 0).any()):
        (level,) = levels_at(process, [float(process.num_timesteps - 1)])
        places.insert(0, Place(level, -math.inf, _TERMINAL_STEP))
    return places


def units_of(level: Level) -> dict[str, float]:
    """By what the squared error of x0 is multiplied to be that of eps, v and flow at a level."""
    alpha, sigma = level.alpha, level.sigma
    return {"x0": 1.0, "eps": (alpha / sigma) ** 2, "v": 1 / sigma**2, "flow": ((alpha + sigma) / sigma) ** 2}
