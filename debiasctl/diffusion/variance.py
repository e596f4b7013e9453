"""The learned variance of a reverse step, and the variational bound that trains it (arXiv 2102.09672)."""

import math

import torch
from torch import Tensor

from debiasctl.diffusion.process import DiffusionProcess, at

_HALF_BIN = 1 / 255  # half the width of one of 256 grey levels in [-1, 1]


def log_variance(process: DiffusionProcess, fraction: Tensor, t: Tensor) -> Tensor:
    """The log variance of p(x_{t-1} | x_t), [N, C, H, W]: f ln beta + (1 - f) ln beta_tilde (2102.09672, Eq. 15).

    `fraction` f is [N, C, H, W], t int64 [N]. At t = 0, where beta_tilde is 0, the value at t = 1 takes its place.
    """
    low, high = at(_log_posterior_variance(process), t, like=fraction), at(process.betas.log(), t, like=fraction)
    return low + fraction * (high - low)


def bound_terms(
    process: DiffusionProcess, x0_hat: Tensor, fraction: Tensor, *, x0: Tensor, x_t: Tensor, t: Tensor
) -> Tensor:
    """The variational bound's term at each image's t, in bits per dimension, float32 [N] (DDPM, Eq. 5).

    The term is KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)), or at t = 0 the negative log-likelihood of 256 grey
    levels. The mean follows from `x0_hat`, detached, so that only the variance is trained (2102.09672, §3.1).
    """
    x0_hat, fraction, x0, x_t = (value.to(torch.float32) for value in (x0_hat.detach(), fraction, x0, x_t))
    true_mean, _ = process.posterior(x0, x_t, t)
    mean, _ = process.posterior(x0_hat, x_t, t)
    predicted = log_variance(process, fraction, t)
    true = at(_log_posterior_variance(process), t, like=x0)
    divergence = 0.5 * (
        predicted - true + (true - predicted).exp() + (true_mean - mean).square() * (-predicted).exp() - 1
    )
    nats = torch.where(
        t.to(x0.device).reshape(-1, 1, 1, 1) == 0, _negative_log_likelihood(x0, mean, predicted), divergence
    )
    return nats.flatten(1).mean(dim=1) / math.log(2)


def _negative_log_likelihood(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The NLL of 256 grey levels in [-1, 1] under a normal distribution, tails in the outer levels (DDPM, Eq. 13)."""
    scale = (-0.5 * log_variance).exp()
    away = -(x0 - mean).abs()  # the lower tail keeps its precision
    log_upper = torch.special.log_ndtr(scale * (away + _HALF_BIN))
    log_lower = torch.special.log_ndtr(scale * (away - _HALF_BIN))
    log_inner = log_upper + (-torch.expm1(log_lower - log_upper)).log()
    return -torch.where(
        x0 < -0.999,
        torch.special.log_ndtr(scale * (x0 - mean + _HALF_BIN)),
        torch.where(x0 > 0.999, torch.special.log_ndtr(-scale * (x0 - mean - _HALF_BIN)), log_inner),
    )


def _log_posterior_variance(process: DiffusionProcess) -> Tensor:
    """Return ln beta_tilde, float64 [T], with its first entry replaced by the second (by ln beta if T = 1)."""
    variance = process.posterior_variance.clone()
    variance[0] = variance[1] if process.num_timesteps > 1 else process.betas[0]
    return variance.log()
