"""Loss weights: defined once in a scheme's own space, right for every prediction type.

One squared error has three units: x0_mse = eps_mse / SNR = v_mse / (SNR + 1). One loss therefore has three weights,
w_x0 = w_eps * SNR = w_v * (SNR + 1), and the weight on the network's own output F is the one of its prediction type.
"""

from typing import Literal, get_args

import torch
from torch import Tensor

from debiasctl.api import Space, Weighting
from debiasctl.errors import DebiasctlError

SNR_MIN, SNR_MAX = 1e-20, 1e20


def bounded_snr(snr: Tensor) -> Tensor:
    """`snr` in float64, kept away from 0 and infinity, so that a zero-terminal-SNR schedule has finite weights."""
    return snr.to(torch.float64).clamp(SNR_MIN, SNR_MAX)


def convert_weight(weight: Tensor, *, source: Space, target: Space, snr: Tensor) -> Tensor:
    """The same loss weight in another unit: w_x0 = w_eps * SNR = w_v * (SNR + 1)."""
    per_x0 = {"x0": torch.ones_like(snr), "eps": snr, "v": snr + 1}  # w_x0 / w_space
    return weight if source == target else weight * (per_x0[source] / per_x0[target])


def weight_in(weighting: Weighting, space: Space, *, snr: Tensor) -> Tensor:
    """A scheme's weight on the squared error of `space`, float64 of snr's shape, not normalised.

    Raises:
        DebiasctlError: the scheme's space is unknown, or it gives something negative, not finite or of another shape.
    """
    snr = bounded_snr(snr)
    name = type(weighting).__name__
    if weighting.space not in get_args(Space):
        raise DebiasctlError(
            f"weighting {name} is written for the space '{weighting.space}'. Allowed: {', '.join(get_args(Space))}"
        )
    weight = torch.as_tensor(weighting(snr), dtype=torch.float64, device=snr.device)
    if weight.shape != snr.shape:
        raise DebiasctlError(
            f"weighting {name} gave a weight of shape {tuple(weight.shape)} for SNRs of shape {tuple(snr.shape)}. "
            "A scheme returns one weight for each SNR"
        )
    weight = convert_weight(weight, source=weighting.space, target=space, snr=snr)
    wrong = ~torch.isfinite(weight) | (weight < 0)
    if bool(wrong.any()):
        raise DebiasctlError(
            f"weighting {name} gives {weight[wrong][0].item()} at SNR {snr[wrong][0].item():.4g} "
            f"(on {space}); weights must be finite and not negative"
        )
    return weight


def effective_weight(
    weighting: Weighting,
    prediction: Space,
    *,
    snr: Tensor,
    base: Tensor,
    normalize: Literal["mean", "none"],
) -> Tensor:
    """The weight on ||F - target||², float64 [T].

    `snr` is the schedule's table [T], `base` the base distribution of t, [T] with sum 1. With `normalize="mean"`
    the weight has mean 1 under `base`, so that schemes share one effective learning rate; `"none"` leaves it as
    its paper writes it.

    Raises:
        DebiasctlError: see `weight_in`; or every weight is zero.
    """
    weight = weight_in(weighting, prediction, snr=snr)
    mean = (base * weight).sum()
    if not bool(mean > 0):
        raise DebiasctlError(
            f"weighting {type(weighting).__name__} is zero at every timestep; nothing would be trained"
        )
    return weight / mean if normalize == "mean" else weight
