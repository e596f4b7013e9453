"""Rectified flow's share of noise, for weightings that are written in it."""

import torch
from torch import Tensor

from debiasctl.diffusion import log_of_table


def share_of_noise(snr: Tensor) -> Tensor:
    """s = sigma/(alpha + sigma) = 1/(1 + √SNR), which is 1 where `bounded_snr` raised an SNR of 0."""
    return 1 / (1 + snr.sqrt().masked_fill(torch.isinf(log_of_table(snr)), 0.0))
