"""DPM-Solver++ sampling."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Self

from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import Level
from debiasctl.builtin.samplers.dpm_solver import MultistepOptions, Past, beyond_first_order, order_of_step, remember
from debiasctl.diffusion import GridSampler, Model, Noise, Step


class DPMSolverPP(GridSampler):
    """Multistep DPM-Solver++ on estimates of x0 (Lu et al., 2022, arXiv 2211.01095, Alg. 2)."""

    class Options(MultistepOptions):
        """The options of DPM-Solver++."""

        stochastic: bool = Field(False, description="solve the SDE instead of the ODE (order 1, which is DDPM, or 2)")

        @model_validator(mode="after")
        def _has_an_order(self) -> Self:
            if self.stochastic and self.order == 3:
                raise ValueError("stochastic DPM-Solver++ has order 1 or 2, not 3. Choose order=2 or stochastic=false")
            return self

        @property
        def lowers(self) -> bool:
            """Whether the order is lowered; for the SDE's steps, nothing was measured that speaks for it."""
            return super().lowers and not (self.stochastic and self.lower_order_final == "auto")

    options: Options

    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """Yield steps (see `GridSampler.steps`); the first ones, and the last to the clean image, have lower order."""
        history: list[Past] = []
        lowers = self.options.lowers
        for k, (now, after) in enumerate(pairwise(grid), start=1):
            x0 = model(x, now).x0
            history = remember(history, now, x0, order=self.options.order)
            order = order_of_step(self.options.order, history, grid, k, lowers=lowers)
            if self.options.stochastic:
                x = self._stochastic(x, history, after, order)
                if after.sigma > 0:
                    x = x + after.sigma * math.sqrt(-math.expm1(-2 * _step(now, after))) * noise(k)
            else:
                x = after.sigma / now.sigma * x - after.alpha * math.expm1(-_step(now, after)) * x0
                if order > 1:
                    more = beyond_first_order(history, after, order=order, curvature=self.options.curvature, data=True)
                    x = x - after.alpha * more
            yield Step(x, x0)

    def _stochastic(self, x: Tensor, history: Sequence[Past], after: Level, order: int) -> Tensor:
        """The mean of a step of SDE-DPM-Solver++ of first order or, multistep, of second (arXiv 2211.01095)."""
        now, x0 = history[0]
        h = _step(now, after)
        if order == 2:
            r0 = (now.half_log_snr - history[1].level.half_log_snr) / h
            x0 = x0 + 0.5 * (x0 - history[1].estimate) / r0
        return after.sigma / now.sigma * math.exp(-h) * x - after.alpha * math.expm1(-2 * h) * x0


def _step(now: Level, after: Level) -> float:
    """The step h = lambda_after - lambda_now, which is infinite from pure noise and to the clean image."""
    return after.half_log_snr - now.half_log_snr
