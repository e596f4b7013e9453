"""Heun's method in EDM's formulation."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from torch import Tensor

from debiasctl.api import Level
from debiasctl.builtin.samplers.euler import ChurnOptions, churn
from debiasctl.diffusion import GridSampler, Model, Noise, Step

LARGEST_RATIO = 1000.0  # sigma/alpha from which a Heun step is taken


class Heun(GridSampler):
    """Heun steps in sigma/alpha, two evaluations each, with churn (Karras et al., 2022, arXiv 2206.00364, Alg. 1, 2).

    The step to the clean image is Euler's, as in the paper, and so is a step from a sigma/alpha above 1,000 (such as
    the cosine schedule's last) or infinite: over such a long step in sigma the mean of two slopes is dominated by the
    error of the first.
    """

    class Options(ChurnOptions):
        """The options of Heun's method."""

    options: Options

    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """See `GridSampler.steps`."""
        for k, (now, after) in enumerate(pairwise(grid), start=1):
            x, raised = churn(model, x, now, options=self.options, num_steps=len(grid) - 1, k=k, noise=noise)
            first = model(x, raised)
            x = after.alpha * first.x0 + after.sigma * first.eps
            if raised.sigma <= LARGEST_RATIO * raised.alpha and after.sigma > 0:
                second = model(x, after)
                # alpha' (sigma'/alpha' - sigma/alpha): the step in EDM's sigma, in units of x'
                step = after.sigma - after.alpha * raised.sigma / raised.alpha
                x = x + step * 0.5 * (second.eps - first.eps)
            yield Step(x, first.x0)
