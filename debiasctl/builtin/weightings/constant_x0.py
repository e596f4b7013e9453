"""The constant weighting on x0."""

import torch
from torch import Tensor

from debiasctl.api import Weighting


class ConstantX0(Weighting):
    """Weight 1 on the error of x0; inverse-snr is the same weighting, written on eps."""

    space = "x0"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_x0 = 1."""
        return torch.ones_like(snr)
