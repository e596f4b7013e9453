"""The constant weighting."""

import torch
from torch import Tensor

from debiasctl.api import Weighting


class Constant(Weighting):
    """Weight 1 on the error of eps: DDPM's simple loss (Ho et al., 2020, arXiv 2006.11239, Eq. 14)."""

    space = "eps"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = 1."""
        return torch.ones_like(snr)
