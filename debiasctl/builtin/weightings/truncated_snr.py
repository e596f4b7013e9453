"""Truncated-SNR weighting."""

from torch import Tensor

from debiasctl.api import PluginOptions


class TruncatedSNR:
    """max(SNR, 1) on the error of x0 (Salimans and Ho, 2022, arXiv 2202.00512)."""

    space = "x0"

    class Options(PluginOptions):
        """It takes no options."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(self, snr: Tensor) -> Tensor:
        """w_x0 = max(SNR, 1)."""
        return snr.clamp(min=1)
