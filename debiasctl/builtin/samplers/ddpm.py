"""Ancestral sampling."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor

from debiasctl.api import Level, UsageError
from debiasctl.diffusion import GridSampler, Model, Noise, SamplerOptions, Step, beta, posterior_variance


class DDPM(GridSampler):
    """Ancestral sampling (Ho et al., 2020, arXiv 2006.11239, Alg. 2), respaced as in arXiv 2102.09672, §4."""

    class Options(SamplerOptions):
        """The options of DDPM."""

        variance: Literal["auto", "fixed-small", "fixed-large", "learned"] = Field(
            "auto",
            description="the posterior's variance (fixed-small), beta (fixed-large; worse with few steps), or the "
            "learned one; auto: learned if the model has one, else fixed-small",
        )

    options: Options

    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """See `GridSampler.steps`."""
        for k, (now, after) in enumerate(pairwise(grid), start=1):
            estimate = model(x, now)
            if self.options.variance == "learned" and estimate.variance_fraction is None:
                raise UsageError(
                    "ddpm:variance=learned needs a model trained with `model.learned_variance=true`; "
                    "for this one choose variance=fixed-small or fixed-large"
                )
            small, large = posterior_variance(now, after), beta(now, after)
            ratio = now.alpha / after.alpha
            x = after.alpha * large / now.sigma**2 * estimate.x0 + ratio * (after.sigma / now.sigma) ** 2 * x  # Eq. 7
            if after.sigma > 0:
                x = x + self._deviation(small, large, estimate.variance_fraction) * noise(k)
            yield Step(x, estimate.x0)

    def _deviation(self, small: float, large: float, fraction: Tensor | None) -> Tensor | float:
        """The standard deviation of the added noise: a number, or [N, C, H, W] if learned (2102.09672, Eq. 15)."""
        if self.options.variance in ("auto", "learned") and fraction is not None:
            return (0.5 * (math.log(small) + fraction * (math.log(large) - math.log(small)))).exp()
        return math.sqrt(large if self.options.variance == "fixed-large" else small)
