"""Loss weights: a scheme defines them in one space, and they are converted exactly for every prediction type.

The squared errors are proportional: x0_mse = eps_mse / SNR = v_mse / (SNR + 1) = flow_mse / (1 + √SNR)² = edm_mse /
(SNR + 1/sigma_data²). One loss therefore has a weight in each space, w_x0 = w_eps SNR = w_v (SNR + 1) =
w_flow (1 + √SNR)² = w_edm (SNR + 1/sigma_data²), and the weight on the network's output F is the one of its prediction
type.
"""

from typing import get_args

import torch
from torch import Tensor

from debiasctl.api import Prediction, Space, Weighting
from debiasctl.boundary import name_of
from debiasctl.errors import DebiasctlError

SNR_MIN, SNR_MAX = 1e-20, 1e20
_ZERO = 10 * SNR_MIN  # a table's SNR up to this stands for 0


def bounded_snr(snr: Tensor) -> Tensor:
    """Clamp `snr` away from 0 and infinity, in float64, so that a zero-terminal-SNR schedule has finite weights."""
    return snr.to(torch.float64).clamp(SNR_MIN, SNR_MAX)


def log_of_table(snr: Tensor) -> Tensor:
    """Return log SNR of a table of bounded SNRs, which is -inf where `bounded_snr` raised an SNR of 0."""
    return snr.log().masked_fill(snr <= _ZERO, -torch.inf)


def convert_weight(
    weight: Tensor, *, source: Space, target: Prediction, snr: Tensor, sigma_data: float = 0.5
) -> Tensor:
    """Convert a loss weight to another space by the factors 1/c_out², as functions of SNR.

    w_x0 = w_eps SNR = w_v (SNR + 1) = w_flow (1 + √SNR)² = w_edm (SNR + 1/sigma_data²), the last from EDM's
    preconditioning (arXiv 2206.00364, Table 1), the one before from rectified flow's x0 = x_s - s (eps - x0).
    """
    if source == target:
        return weight
    per_x0 = {  # w_x0 / w_space
        "x0": torch.ones_like(snr),
        "eps": snr,
        "v": snr + 1,
        "flow": (1 + snr.sqrt().masked_fill(snr <= _ZERO, 0)) ** 2,
        "edm": snr + sigma_data**-2,
    }
    return weight * (per_x0[source] / per_x0[target])


def weight_in(weighting: Weighting, target: Prediction, *, snr: Tensor, sigma_data: float = 0.5) -> Tensor:
    """A weighting's weight on the squared error of `target`, float64 of snr's shape, not normalised.

    `weighting` is one that `Weighting.at` returned.

    Raises:
        DebiasctlError: if the weighting's space is unknown, or a weight is no number, negative, not finite or of
            another shape.
    """
    snr = bounded_snr(snr)
    name = name_of(weighting, "weighting")
    if weighting.space not in get_args(Space):
        raise DebiasctlError(
            f"{name} is written for the space '{weighting.space}'. Allowed: {', '.join(get_args(Space))}"
        )
    given = weighting(snr)
    try:
        weight = torch.as_tensor(given, dtype=torch.float64, device=snr.device)
    except (TypeError, ValueError, RuntimeError):
        raise DebiasctlError(f"{name} returns a {type(given).__name__}; give a tensor of weights, [N]") from None
    fault = weight_fault(weight, snr)
    if fault is None:
        weight = convert_weight(weight, source=weighting.space, target=target, snr=snr, sigma_data=sigma_data)
        fault = weight_fault(weight, snr, unit=f" (on {target})")
    if fault is not None:
        raise DebiasctlError(f"{name} {fault}")
    return weight


def weight_fault(weight: Tensor, snr: Tensor, *, unit: str = "") -> str | None:
    """What is wrong with the weights of a scheme at `snr`, as a sentence about the scheme; None if they are allowed."""
    if weight.shape != snr.shape:
        return (
            f"gave a weight of shape {tuple(weight.shape)} for SNRs of shape {tuple(snr.shape)}. "
            "A scheme returns one weight for each SNR; a constant one, for example, torch.ones_like(snr)"
        )
    wrong = ~torch.isfinite(weight) | (weight < 0)
    if not bool(wrong.any()):
        return None
    return (
        f"gives {weight[wrong][0].item()} at SNR {snr[wrong][0].item():.4g}{unit}; weights must be finite and not "
        "negative"
    )


def falling_slope(log_snr: Tensor) -> Tensor:
    """Return -d log SNR/dt by central differences, float64 [T], positive; the last finite value repeats where SNR is 0.

    `log_snr` is float64 [T] and decreasing; its last value may be -inf.
    """
    finite = log_snr[torch.isfinite(log_snr)]
    if len(finite) < 2:
        return torch.ones_like(log_snr)
    slope = -torch.gradient(finite)[0]
    return torch.cat([slope, slope[-1:].expand(len(log_snr) - len(finite))])
