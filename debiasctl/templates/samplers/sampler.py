"""A sampler."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from debiasctl.api import Level
from debiasctl.diffusion import GridSampler, Model, Noise, SamplerOptions, Step
from pydantic import Field
from torch import Tensor


class MySampler(GridSampler):
    """First-order steps of the reverse process with any amount of noise (SA-Solver, arXiv 2309.05019, at a fixed tau).

    From a level to the next, which has a dash, with r = alpha sigma'/(sigma alpha'):

    x' = (sigma'/sigma) r^(tau²) x + alpha' (1 - r^(1 + tau²)) x0 + sigma' √(1 - r^(2 tau²)) n, n standard normal.

    tau = 0 is DDIM (arXiv 2010.02502), and tau = 1 has the noise of DDPM (arXiv 2006.11239).
    """

    class Options(SamplerOptions):
        """The options of the sampler, beside those that all samplers on a grid have."""

        tau: float = Field(0.5, ge=0, le=10, description="noise that the steps draw: none at 0, DDPM's at 1")

    options: Options

    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """Yield a step for each pair of neighbouring noise levels; x is [N, C, H, W] at the first of them."""
        power = self.options.tau**2
        for k, (now, after) in enumerate(pairwise(grid), start=1):
            x0 = model(x, now).x0
            r = now.alpha * after.sigma / (now.sigma * after.alpha)
            x = after.sigma / now.sigma * r**power * x + after.alpha * (1 - r ** (1 + power)) * x0
            if power > 0 and after.sigma > 0:
                x = x + after.sigma * math.sqrt(1 - r ** (2 * power)) * noise(k)
            yield Step(x, x0)
