"""DDIM sampling."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from pydantic import Field
from torch import Tensor

from debiasctl.api import Level
from debiasctl.diffusion import GridSampler, Model, Noise, SamplerOptions, Step, posterior_variance


class DDIM(GridSampler):
    """Implicit sampling, deterministic at eta = 0 (Song et al., 2021, arXiv 2010.02502, Eq. 12)."""

    class Options(SamplerOptions):
        """The options of DDIM."""

        eta: float = Field(0.0, ge=0, le=1, description="noise added at each step, as a share of DDPM's")

    options: Options

    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """See `GridSampler.steps`."""
        for k, (now, after) in enumerate(pairwise(grid), start=1):
            estimate = model(x, now)
            variance = self.options.eta**2 * posterior_variance(now, after)  # Eq. 16
            x = after.alpha * estimate.x0 + math.sqrt(max(0.0, after.sigma**2 - variance)) * estimate.eps
            if variance > 0:
                x = x + math.sqrt(variance) * noise(k)
            yield Step(x, estimate.x0)
