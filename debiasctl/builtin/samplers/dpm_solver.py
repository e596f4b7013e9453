"""DPM-Solver in its multistep form, and the parts it shares with DPM-Solver++."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, Self

from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import Level
from debiasctl.diffusion import GridSampler, Model, Noise, SamplerOptions, Spacing, Step

# Spacings whose last step in log-SNR is so long that a lower order is more exact there, on average over numbers of
# steps, solvers, schedules and data (docs/concepts/sampling.md; benchmarks/last_step.py)
_LOWERED: tuple[Spacing, ...] = ("uniform", "leading", "linspace", "quadratic")
FEW_STEPS = 15  # below this, third order is lowered to second before the last step, as in diffusers


class LastStepOptions(SamplerOptions):
    """What the multistep solvers' options have in common."""

    order: int = Field(2, ge=1, le=3, description="order of the solver; 1 is DDIM")
    lower_order_final: bool | Literal["auto"] = Field(
        "auto",
        description="lower the order to 1 in the step to the last level with noise, and to 2 before it, as published "
        "codes do; auto: where that is more exact",
    )

    @model_validator(mode="after")
    def _lowering_has_an_effect(self) -> Self:
        if self.order == 1 and self.lower_order_final != "auto":
            raise ValueError("lower_order_final has no effect with order=1; it belongs to order=2 and order=3")
        return self

    @property
    def lowers(self) -> bool:
        """Whether the order is lowered towards the last level with noise."""
        return self.spacing in _LOWERED if self.lower_order_final == "auto" else self.lower_order_final


class MultistepOptions(LastStepOptions):
    """The options of DPM-Solver and DPM-Solver++."""

    spacing: Spacing = Field("log-snr", description="how the steps are spread over the noise levels")
    curvature: Literal["half", "full"] = Field(
        "half",
        description="order=3, weight of the second difference: half as in the authors' code and diffusers, or full as "
        "in Taylor's formula, which is the only one of third order",
    )

    @model_validator(mode="after")
    def _curvature_has_an_effect(self) -> Self:
        if self.curvature == "full" and self.order != 3:
            raise ValueError(f"curvature has no effect with order={self.order}; it belongs to order=3")
        return self


class Past(NamedTuple):
    """A visited noise level, and the model's estimate there: of eps or, in DPM-Solver++, of x0."""

    level: Level
    estimate: Tensor


def remember(history: Sequence[Past], now: Level, estimate: Tensor, *, order: int) -> list[Past]:
    """Keep the last `order` estimates, the newest first.

    An estimate made where the SNR is 0 is dropped: it lies infinitely far away in log-SNR, so that differences with it
    say nothing about the derivative.
    """
    return [Past(now, estimate), *(past for past in history if past.level.alpha > 0)][:order]


def order_of_step(order: int, history: Sequence[Past], grid: Sequence[Level], k: int, *, lowers: bool) -> int:
    """The order of the k-th step, as high as the estimates so far allow, but 1 from or to an infinite log-SNR.

    With `lowers`, it also falls to 1 in the step to the last level with noise, before the clean image.
    """
    after, steps_left = grid[k], len(grid) - k
    if after.sigma == 0 or history[0].level.alpha == 0:
        return 1
    if lowers and grid[-1].sigma == 0:
        return min(order, len(history), steps_left - 1)
    if steps_left == 2 and grid[-1].sigma == 0 and len(grid) - 1 < FEW_STEPS:
        return min(order, len(history), 2)
    return min(order, len(history))


def beyond_first_order(
    history: Sequence[Past], after: Level, *, order: int, curvature: Literal["half", "full"], data: bool
) -> Tensor:
    """The terms [N, C, H, W] that orders 2 and 3 add to (e^h - 1) times the newest estimate; h < 0 for x0 (`data`).

    Order 2 is the multistep solver of arXiv 2211.01095, Alg. 2; order 3 is that of its authors' code. Taylor's formula
    for the exponential integral has d1 and 2 d2 as the first two derivatives. The authors' code and diffusers use d2
    instead of 2 d2, which leaves an error of second order, though a smaller one.
    """
    now, m0 = history[0]
    step = after.half_log_snr - now.half_log_snr
    h = -step if data else step
    r0 = (now.half_log_snr - history[1].level.half_log_snr) / step
    slope = (m0 - history[1].estimate) / r0
    if order == 2:
        return 0.5 * math.expm1(h) * slope
    r1 = (history[1].level.half_log_snr - history[2].level.half_log_snr) / step
    d2 = (slope - (history[1].estimate - history[2].estimate) / r1) / (r0 + r1)
    d1 = slope + r0 * d2
    first = math.expm1(h) / h - 1
    second = first / h - 0.5
    return first * d1 + (2 * second if curvature == "full" else second) * d2


class DPMSolver(GridSampler):
    """Multistep DPM-Solver on estimates of eps (Lu et al., 2022, arXiv 2206.00927)."""

    class Options(MultistepOptions):
        """The options of DPM-Solver."""

    options: Options

    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """Yield steps (see `GridSampler.steps`); the first ones, and the last to the clean image, have lower order."""
        history: list[Past] = []
        lowers = self.options.lowers
        for k, (now, after) in enumerate(pairwise(grid), start=1):
            estimate = model(x, now)
            history = remember(history, now, estimate.eps, order=self.options.order)
            order = order_of_step(self.options.order, history, grid, k, lowers=lowers)
            # (alpha'/alpha) x - sigma' (e^h - 1) eps (Eq. 3.7), in a form that holds at alpha = 0 and sigma' = 0
            x = after.alpha * estimate.x0 + after.sigma * estimate.eps
            if order > 1:
                more = beyond_first_order(history, after, order=order, curvature=self.options.curvature, data=False)
                x = x - after.sigma * more
            yield Step(x, estimate.x0)
