"""Euler's method in EDM's formulation, and the churn that it shares with Heun's method."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import Level
from debiasctl.diffusion import GridSampler, Model, Noise, SamplerOptions, Spacing, Step, beta, level_at_ratio

MAX_CHURN = math.sqrt(2) - 1  # arXiv 2206.00364, Alg. 2: never add more noise than there is already


class ChurnOptions(SamplerOptions):
    """The options of EDM's samplers; noise levels are EDM's, sigma/alpha."""

    spacing: Spacing = Field("karras", description="how the steps are spread over the noise levels")
    s_churn: float = Field(0.0, ge=0, description="churn: noise added before a step, by this over the number of steps")
    s_tmin: float = Field(0.0, ge=0, description="churn only where sigma/alpha is at least this")
    s_tmax: float | None = Field(None, gt=0, description="churn only where sigma/alpha is at most this")
    s_noise: float = Field(1.0, gt=0, description="standard deviation of the added noise, e.g. 1.003")

    @model_validator(mode="after")
    def _churn_where_it_is_tuned(self) -> Self:
        tuned = [name for name in ("s_tmin", "s_tmax", "s_noise") if getattr(self, name) != _DEFAULTS[name]]
        if tuned and self.s_churn == 0:
            raise ValueError(f"{', '.join(tuned)}: no effect with s_churn=0. Choose a larger s_churn, such as 40")
        if self.s_tmax is not None and self.s_tmax < self.s_tmin:
            raise ValueError(f"s_tmax ({self.s_tmax:g}) must not be less than s_tmin ({self.s_tmin:g})")
        return self


_DEFAULTS = {name: field.default for name, field in ChurnOptions.model_fields.items()}


def churn(
    model: Model, x: Tensor, now: Level, *, options: ChurnOptions, num_steps: int, k: int, noise: Noise
) -> tuple[Tensor, Level]:
    """Add noise before the k-th step, and return the images and their level (arXiv 2206.00364, Alg. 2).

    The level is never noisier than the schedule's last, and may lie between two timesteps.
    """
    gamma = min(options.s_churn / num_steps, MAX_CHURN)
    ratio = now.sigma / now.alpha if now.alpha > 0 else math.inf
    upper = math.inf if options.s_tmax is None else options.s_tmax
    if gamma == 0 or now.alpha == 0 or not options.s_tmin <= ratio <= upper:
        return x, now
    raised = level_at_ratio(model.process, (1 + gamma) * ratio)
    if raised.sigma <= now.sigma:
        return x, now
    deviation = options.s_noise * math.sqrt(beta(raised, now))
    return raised.alpha / now.alpha * x + deviation * noise(k), raised


class Euler(GridSampler):
    """Euler steps in sigma/alpha, equal to DDIM's, with churn (Karras et al., 2022, arXiv 2206.00364, Alg. 2)."""

    class Options(ChurnOptions):
        """The options of Euler's method."""

    options: Options

    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """See `GridSampler.steps`."""
        for k, (now, after) in enumerate(pairwise(grid), start=1):
            x, raised = churn(model, x, now, options=self.options, num_steps=len(grid) - 1, k=k, noise=noise)
            estimate = model(x, raised)
            # x/alpha + (sigma'/alpha' - sigma/alpha) eps, times alpha': finite at alpha = 0
            x = after.alpha * estimate.x0 + after.sigma * estimate.eps
            yield Step(x, estimate.x0)
