"""Inverse-SNR weighting."""

from torch import Tensor

from debiasctl.api import Weighting


class InverseSNR(Weighting):
    """1/SNR on the error of eps, which weights the error of x0 equally at every t; the same as constant-x0."""

    space = "eps"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = 1/SNR."""
        return snr.reciprocal()
