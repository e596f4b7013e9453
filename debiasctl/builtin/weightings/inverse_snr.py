"""Inverse-SNR weighting."""

from torch import Tensor

from debiasctl.api import Weighting


class InverseSNR(Weighting):
    """1/SNR on the error of eps, so that every t's error of x0 counts alike; constant-x0 is the same weighting."""

    space = "eps"

    def __call__(self, snr: Tensor) -> Tensor:
        """w_eps = 1/SNR."""
        return snr.reciprocal()
