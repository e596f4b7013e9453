"""Truncated-SNR weighting."""

from torch import Tensor

from debiasctl.api import Weighting


class TruncatedSNR(Weighting):
    """max(SNR, 1) on the error of x0 (Salimans and Ho, 2022, arXiv 2202.00512)."""

    space = "x0"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_x0 = max(SNR, 1)."""
        return snr.clamp(min=1)
