"""Inverse-SNR weighting."""

from torch import Tensor

from debiasctl.api import PluginOptions


class InverseSNR:
    """1/SNR on the error of eps, so that every t's error of x0 counts alike; constant-x0 is the same weighting."""

    space = "eps"

    class Options(PluginOptions):
        """It takes no options."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(self, snr: Tensor) -> Tensor:
        """w_eps = 1/SNR."""
        return snr.reciprocal()
