"""The paper's weighting."""

from torch import Tensor

from debiasctl.api import PluginOptions


class Debiased:
    """1/√SNR on the error of eps: Debias the Training of Diffusion Models (Yu et al., 2023, arXiv 2310.08442)."""

    space = "eps"

    class Options(PluginOptions):
        """It takes no options."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(self, snr: Tensor) -> Tensor:
        """w_eps = 1/√SNR."""
        return snr.rsqrt()
