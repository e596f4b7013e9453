"""The constant weighting on v."""

import torch
from torch import Tensor

from debiasctl.api import Weighting


class ConstantV(Weighting):
    """Weight 1 on the error of v, "SNR + 1" (Salimans and Ho, 2022, arXiv 2202.00512)."""

    space = "v"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_v = 1."""
        return torch.ones_like(snr)
