"""The share of noise as a weight."""

from torch import Tensor

from debiasctl.api import Weighting
from debiasctl.builtin.weightings._share import share_of_noise


class Sigma(Weighting):
    """s on the error of u = eps - x0, s = sigma/(alpha + sigma): OneTrainer's loss weight "sigma" for flow models.

    Its weight grows with the noise, where that of `sigma-sqrt` falls.
    """

    space = "flow"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_u = s."""
        return share_of_noise(snr)
