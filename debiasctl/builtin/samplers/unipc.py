"""UniPC sampling."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import Level
from debiasctl.builtin.samplers.dpm_solver import LastStepOptions, Past, remember
from debiasctl.diffusion import GridSampler, Model, Noise, Spacing, Step


class UniPC(GridSampler):
    """Multistep UniPC on estimates of x0 (Zhao et al., 2023, arXiv 2302.04867, Alg. 1 and 2).

    The estimate at a new level first corrects the images there and then predicts those at the next, so that a step
    takes one network evaluation. The last level's images are not corrected.
    """

    class Options(LastStepOptions):
        """The options of UniPC."""

        spacing: Spacing = Field("log-snr", description="how the steps are spread over the noise levels")
        order: int = Field(3, ge=1, le=3, description="order of the predictor; the corrector raises it by one")
        variant: Literal["bh1", "bh2"] = Field(
            "bh2", description="bh1: B(h) = h, recommended for few steps without guidance; bh2: B(h) = e^h - 1"
        )

    options: Options

    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """Yield steps (see `GridSampler.steps`); the first and the last ones have lower order."""
        history: list[Past] = []
        before, order = x, 1
        lowered = self.options.lowers
        for k, (now, after) in enumerate(pairwise(grid), start=1):
            x0 = model(x, now).x0
            if history and history[0].level.alpha > 0:  # a step over an infinite log-SNR cannot be corrected
                x = self._update(before, history[:order], now, corrected_by=x0)
            history = remember(history, now, x0, order=self.options.order)
            order = len(history)
            if grid[-1].sigma == 0:
                order = max(1, min(order, len(grid) - k - lowered))
            before = x
            x = self._update(before, history[:order], after)
            yield Step(x, x0)

    def _update(self, x: Tensor, past: Sequence[Past], after: Level, *, corrected_by: Tensor | None = None) -> Tensor:
        """Apply UniP or, given the estimate of x0 at `after`, UniC to x at the newest level of `past`."""
        now, m0 = past[0]
        step = after.half_log_snr - now.half_log_snr
        x_next = after.sigma / now.sigma * x - after.alpha * math.expm1(-step) * m0
        ratios = [(level.half_log_snr - now.half_log_snr) / step for level, _ in past[1:]]
        differences = [(m - m0) / r for (_, m), r in zip(past[1:], ratios, strict=True)]
        if corrected_by is not None:
            ratios, differences = [*ratios, 1.0], [*differences, corrected_by - m0]
        for weight, difference in zip(self._weights(ratios, -step), differences, strict=True):
            x_next = x_next - after.alpha * weight * difference
        return x_next

    def _weights(self, ratios: Sequence[float], h: float) -> list[float]:
        """Solve sum_m a_m r_m^(n-1) B(h) = n! h phi_(n+1)(h), n = 1, 2, ..., for a_m B(h) (arXiv 2302.04867, Thm. 3.1).

        B(h) cancels except for a single difference, for which a_1 = 1/2 gives the desired order for all r_1 and B(h).
        """
        if not ratios:
            return []
        if len(ratios) == 1:
            return [0.5 * (h if self.options.variant == "bh1" else math.expm1(h))]
        size = len(ratios)
        phi = [math.expm1(h) / h - 1]  # h phi_2(h), h phi_3(h), ...
        for n in range(2, size + 1):
            phi.append(phi[-1] / h - 1 / math.factorial(n))
        powers = torch.tensor([[r**n for r in ratios] for n in range(size)], dtype=torch.float64)
        right = torch.tensor([math.factorial(n) * value for n, value in enumerate(phi, start=1)], dtype=torch.float64)
        weights: list[float] = torch.linalg.solve(powers, right).tolist()
        return weights
