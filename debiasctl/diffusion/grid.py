"""The noise levels that a sampler visits, from the last timestep to the clean image."""

import math
from collections.abc import Callable
from itertools import accumulate, repeat
from typing import Literal

import torch

from debiasctl.api import Level
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.errors import UsageError

Spacing = Literal["uniform", "quadratic", "leading", "trailing", "linspace", "karras", "log-snr"]
RHO = 7.0  # Karras et al., 2022, arXiv 2206.00364, Table 1


CLEAN = Level(-math.inf, 1.0, 0.0)  # the image itself; the network is never evaluated here


def noise_grid(
    process: DiffusionProcess, num_steps: int, *, spacing: Spacing, rho: float = RHO, sigma_max: float = math.inf
) -> list[Level]:
    """Return `num_steps` levels, the noisiest first, followed by `CLEAN`.

    uniform    whole timesteps at one fractional stride from T - 1 to 0, rounded (ADM's)
    quadratic  whole timesteps as the squares of even steps (arXiv 2010.02502, App. D.2), from T - 1 to 0
    leading, trailing, linspace    whole timesteps as in arXiv 2305.08891, Table 2
    karras     sigma/alpha to the power 1/rho in even steps (arXiv 2206.00364, Eq. 5), between timesteps too
    log-snr    log-SNR in even steps (arXiv 2206.00927, App. D.4), between timesteps too

    Where the last timestep's sigma/alpha is infinite or above `sigma_max`, karras and log-snr start at that timestep
    and space the remaining levels from `sigma_max` (or from the noisiest finite level) downwards.

    Raises:
        UsageError: if `num_steps` is below 1, or exceeds the number of timesteps for a spacing of whole ones.
    """
    whole = spacing not in ("karras", "log-snr")
    if num_steps < 1 or (whole and num_steps > process.num_timesteps):
        allowed = f"choose from 1 to {process.num_timesteps}, the schedule's timesteps" if whole else "choose 1 or more"
        raise UsageError(f"{num_steps} sampling steps: {allowed}")
    if whole:
        ascending: list[float] = [float(t) for t in _WHOLE[spacing](process.num_timesteps, num_steps)]
        return [*levels_at(process, ascending[::-1]), CLEAN]
    noisiest = process.log_snr[-1 if process.snr[-1] > 0 else -2].item()
    first = min(max(noisiest, -2 * math.log(sigma_max)), process.log_snr[0].item())
    ends_apart = first < process.log_snr[0].item()
    if not ends_apart and num_steps > (1 if first == process.log_snr[-1] else 2):
        raise UsageError(
            f"spacing={spacing}: there are no {num_steps} different noise levels between sigma_max and the schedule's "
            "lowest. Raise sigma_max, use spacing=uniform, or a schedule with more timesteps"
        )
    if first == process.log_snr[-1]:
        return [*levels_at(process, _between(process, num_steps, spacing=spacing, rho=rho, first=first)), CLEAN]
    rest = _between(process, num_steps - 1, spacing=spacing, rho=rho, first=first)
    return [*levels_at(process, [float(process.num_timesteps - 1), *rest]), CLEAN]


def levels_at(process: DiffusionProcess, timesteps: list[float]) -> list[Level]:
    """The levels at those timesteps, which may lie between whole ones."""
    levels = process.levels(torch.tensor(timesteps, dtype=torch.float64))
    return [
        Level(t, alpha, sigma)
        for t, alpha, sigma in zip(timesteps, levels.alpha.tolist(), levels.sigma.tolist(), strict=True)
    ]


def level_at_ratio(process: DiffusionProcess, ratio: float) -> Level:
    """The level where sigma/alpha (EDM's sigma) is `ratio`, clamped to the ends of the schedule."""
    (level,) = levels_at(
        process, process.timestep_of(torch.tensor([-2 * math.log(ratio)], dtype=torch.float64)).tolist()
    )
    return level


def _between(process: DiffusionProcess, num_steps: int, *, spacing: Spacing, rho: float, first: float) -> list[float]:
    """Timesteps from log-SNR `first` to timestep 0, evenly spaced in the measure that the spacing names."""
    last = process.log_snr[0].item()
    share = torch.arange(num_steps, dtype=torch.float64) / max(num_steps - 1, 1)
    if spacing == "log-snr":
        log_snr = first + share * (last - first)
    else:
        start, end = math.exp(-first / (2 * rho)), math.exp(-last / (2 * rho))
        log_snr = -2 * rho * torch.log(start + share * (end - start))
    return process.timestep_of(log_snr).tolist()


def _uniform(num_timesteps: int, num_steps: int) -> list[int]:
    if num_steps == 1:
        return [num_timesteps - 1]
    stride = (num_timesteps - 1) / (num_steps - 1)
    # ADM accumulates the stride; multiplying instead would round some halves the other way
    return [round(timestep) for timestep in accumulate(repeat(stride, num_steps - 1), initial=0.0)]


def _quadratic(num_timesteps: int, num_steps: int) -> list[int]:
    if num_steps == 1:
        return [num_timesteps - 1]
    squares = [round((num_timesteps - 1) * (i / (num_steps - 1)) ** 2) for i in range(num_steps)]
    return list(accumulate(squares, lambda before, wanted: max(wanted, before + 1)))  # the first squares round equal


def _linspace(num_timesteps: int, num_steps: int) -> list[int]:
    if num_steps == 1:
        return [num_timesteps - 1]
    return [round(i * (num_timesteps - 1) / (num_steps - 1)) for i in range(num_steps)]


def _leading(num_timesteps: int, num_steps: int) -> list[int]:
    return [i * (num_timesteps // num_steps) for i in range(num_steps)]


def _trailing(num_timesteps: int, num_steps: int) -> list[int]:
    return [round((i + 1) * num_timesteps / num_steps) - 1 for i in range(num_steps)]


_WHOLE: dict[str, Callable[[int, int], list[int]]] = {
    "uniform": _uniform,
    "quadratic": _quadratic,
    "leading": _leading,
    "trailing": _trailing,
    "linspace": _linspace,
}
