"""The weight that diffusers calls sigma_sqrt."""

from torch import Tensor

from debiasctl.api import Weighting
from debiasctl.builtin.weightings._share import share_of_noise


class SigmaSqrt(Weighting):
    """1/s² on the error of u = eps - x0: "sigma_sqrt" of diffusers' scripts and sd-scripts for Stable Diffusion 3.

    s = sigma/(alpha + sigma) is the share of noise, and the name notwithstanding it is the inverse square: on x0 the
    weight is 1/s⁴. Without noise it has no bound, so that its mean depends on the first noise levels of the schedule.
    """

    space = "flow"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_u = s^-2 = (1 + √SNR)²."""
        return share_of_noise(snr) ** -2
