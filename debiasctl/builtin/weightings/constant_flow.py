"""The constant weighting on rectified flow's velocity."""

import torch
from torch import Tensor

from debiasctl.api import Weighting


class ConstantFlow(Weighting):
    """Weight 1 on the error of rectified flow's eps - x0, which flow models train with (SD3, arXiv 2403.03206).

    On x0 it is (1 + √SNR)² = 1/s²; with x0-prediction it is the objective of JiT (arXiv 2511.13720).
    """

    space = "flow"

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_flow = 1."""
        return torch.ones_like(snr)
