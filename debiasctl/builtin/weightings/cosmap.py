"""CosMap as a weight."""

import math

from torch import Tensor

from debiasctl.api import Weighting
from debiasctl.builtin.weightings._share import share_of_noise


class CosMap(Weighting):
    """2/(π(1 - 2s + 2s²)) on the error of u = eps - x0: "cosmap" of diffusers' scripts and sd-scripts for SD3.

    s = sigma/(alpha + sigma) is the share of noise. Stable Diffusion 3 (Esser et al., 2024, arXiv 2403.03206, Sec. 3.1)
    has the formula as a density of s, which is the distribution `cosmap` of timesteps and, where s is otherwise
    uniform, in expectation the same objective. Both at once are its square.
    """

    space = "flow"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_u = 2/(π((1 - s)² + s²)); 1 - 2s + 2s² is the same."""
        s = share_of_noise(snr)
        return 2 / (math.pi * ((1 - s) ** 2 + s**2))
