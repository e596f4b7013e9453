"""Timesteps with the density of a cosine schedule."""

import math

import torch
from torch import Tensor

from debiasctl.builtin.timesteps._share import Edges, OverShare, ShareOptions


class CosMap(OverShare):
    """Density 2/(π(1 - 2x + 2x²)) of x = time: CosMap of Stable Diffusion 3 (Esser et al., 2024, arXiv 2403.03206).

    On rectified flow it draws the noise levels of a cosine schedule whose t is uniform (Sec. 3.1): as a share of noise,
    x = s, it makes the angle arctan(sigma/alpha) uniform. It is symmetric, so that it does not matter from which end
    time is counted. Some trainers offer cosmap as this density. diffusers' scripts have the same formula as a weight on
    u = eps - x0 at uniform times, which is the weighting `cosmap` here and in expectation the same objective. Both at
    once train the square of it.
    """

    class Options(ShareOptions):
        """The options of timesteps with the density of a cosine schedule."""

    options: Options

    def tails(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return P(below) = (2/π) arctan(x/(1 - x)) and P(above) for each edge."""
        return torch.atan2(edges.x, edges.rest) * (2 / math.pi), torch.atan2(edges.rest, edges.x) * (2 / math.pi)
