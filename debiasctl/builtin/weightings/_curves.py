"""Interpolation of curves given at some SNRs, for weightings."""

import numpy as np
import torch
from torch import Tensor

from debiasctl.diffusion import bounded_snr


def at_snr(snr: Tensor, *, levels: Tensor, values: Tensor) -> Tensor:
    """Interpolate `values` [K] at the SNRs `levels` [K] linearly in log SNR, with constant extrapolation.

    `levels` are distinct and in any order; the result is float64 with snr's shape.
    """
    order = levels.argsort()
    known, wanted = (bounded_snr(given).log().cpu().numpy() for given in (levels[order], snr))
    return torch.as_tensor(np.interp(wanted, known, values[order].cpu().numpy()), device=snr.device)
