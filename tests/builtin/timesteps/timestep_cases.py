"""Schedules as the core shows them to a distribution of t."""

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import TimestepContext
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.diffusion.weighting import bounded_snr, falling_slope

SCHEDULES = (
    "linear",
    "cosine",
    "sigmoid",
    "edm",
    "linear:zero_terminal_snr=true",
    "cosine:zero_terminal_snr=true",
    "linear:num_timesteps=100",
)


def make(ref: str) -> DiffusionProcess:
    return process_of(registry.create("schedules", ref))


def context_of(process: DiffusionProcess, weight: Tensor | None = None) -> TimestepContext:
    snr = bounded_snr(process.snr)
    return TimestepContext(snr, falling_slope(process.log_snr), torch.ones_like(snr) if weight is None else weight)


def context(schedule: str, weight: Tensor | None = None) -> TimestepContext:
    return context_of(make(schedule), weight)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
