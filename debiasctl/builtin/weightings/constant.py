"""The constant weighting."""

import torch
from torch import Tensor

from debiasctl.api import PluginOptions


class Constant:
    """Weight 1 on the error of eps: DDPM's simple loss (Ho et al., 2020, arXiv 2006.11239, Eq. 14)."""

    space = "eps"

    class Options(PluginOptions):
        """It takes no options."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def __call__(self, snr: Tensor) -> Tensor:
        """w_eps = 1."""
        return torch.ones_like(snr)
