"""The learned variance of a reverse step, and the variational bound that trains it (arXiv 2102.09672)."""

import math

import torch
from torch import Tensor

from debiasctl.diffusion.process import DiffusionProcess, at

_HALF_BIN = 1 / 255  # half the width of one of 256 grey levels in [-1, 1]
_NEAR = 0.1  # below it, e^-d - 1 + d is summed as a series


def log_variance(process: DiffusionProcess, fraction: Tensor, t: Tensor) -> Tensor:
    """The log variance of p(x_{t-1} | x_t), [N, C, H, W]: f ln beta + (1 - f) ln beta_tilde (2102.09672, Eq. 15).

    `fraction` f is [N, C, H, W], t int64 [N]. At t = 0, where beta_tilde is 0, the value at t = 1 takes its place.
    """
    low = _log_posterior_variance(process)
    return at(low, t, like=fraction) + fraction * at(process.betas.log() - low, t, like=fraction)


def bound_terms(process: DiffusionProcess, x0_hat: Tensor, fraction: Tensor, *, x0: Tensor, t: Tensor) -> Tensor:
    """The variational bound's term at each image's t, in bits per dimension, [N] (DDPM, Eq. 5), in x0's dtype.

    The term is KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)), or at t = 0 the negative log-likelihood of 256 grey
    levels. The mean follows from `x0_hat`, detached, so that only the variance is trained (2102.09672, §3.1). Half
    precision is raised to float32. Values and gradients are finite for errors of any size that their squares allow.
    """
    dtype = torch.promote_types(x0.dtype, torch.float32)
    x0_hat, fraction, x0 = (value.to(dtype) for value in (x0_hat.detach(), fraction, x0))
    nats = _divergence(process, x0_hat, fraction, x0=x0, t=t)
    first = (t.cpu() == 0).nonzero().flatten()
    if len(first):
        # apart from the others, whose variances and errors would overflow the decoder's gradient
        rows = first.to(x0.device)
        variance = log_variance(process, fraction[rows], t.cpu()[first])
        nats = nats.index_copy(0, rows, _negative_log_likelihood(x0[rows], x0_hat[rows], variance))
    return nats.flatten(1).mean(dim=1) / math.log(2)


def _divergence(process: DiffusionProcess, x0_hat: Tensor, fraction: Tensor, *, x0: Tensor, t: Tensor) -> Tensor:
    """The KL divergence at each pixel; at t = 0, where there is none, a value of no meaning.

    With d = ln(variance/beta_tilde), it is (e^-d - 1 + d + (SNR(t-1) - SNR(t)) (x0 - x0_hat)² e^-d)/2: the means'
    difference is coef (x0 - x0_hat), and coef²/beta_tilde is the SNR's fall. No difference of large numbers is left.
    """
    d = fraction * at(process.betas.log() - _log_posterior_variance(process), t, like=fraction)
    fall = torch.cat([process.snr[:1], process.snr[:-1]]) - process.snr
    return 0.5 * (_excess(d) + (at(fall.sqrt(), t, like=x0) * (x0 - x0_hat)).square() * (-d).exp())


def _excess(d: Tensor) -> Tensor:
    """Compute e^-d - 1 + d, which near 0 is d²/2, to its last digits."""
    near = d.clamp(-_NEAR, _NEAR)
    series = near.square() / 2 * (1 - near / 3 * (1 - near / 4 * (1 - near / 5 * (1 - near / 6 * (1 - near / 7)))))
    return torch.where(d.abs() < _NEAR, series, torch.expm1(-d) + d)


def _negative_log_likelihood(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """The NLL of 256 grey levels in [-1, 1] under a normal distribution, tails in the outer levels (DDPM, Eq. 13)."""
    scale = (-0.5 * log_variance).exp()
    away = -(x0 - mean).abs()  # the lower tail keeps its precision
    upper, lower = scale * (away + _HALF_BIN), scale * (away - _HALF_BIN)
    # Phi(lower)/Phi(upper), with the difference of the exponents' squares taken before they are large
    below = (away + _HALF_BIN).clamp(max=0)
    width = torch.where(away < -_HALF_BIN, 2 * _HALF_BIN, _HALF_BIN - away)
    squares = scale.square() * width * (_HALF_BIN - away - below)
    log_share = _tail(lower) - _tail(upper) - squares / 2
    log_inner = _log_ndtr(upper) + (-torch.expm1(log_share)).log()
    return -torch.where(
        x0 < -0.999,
        _log_ndtr(scale * (x0 - mean + _HALF_BIN)),
        torch.where(x0 > 0.999, _log_ndtr(-scale * (x0 - mean - _HALF_BIN)), log_inner),
    )


def _log_ndtr(z: Tensor) -> Tensor:
    """Compute ln Phi(z), with the gradient that `torch.special.log_ndtr` loses far below 0 (to 0, infinity or NaN)."""
    return _tail(z) - torch.minimum(z, z.new_zeros(())).square() / 2


def _tail(z: Tensor) -> Tensor:
    """Compute ln Phi(z) + min(z, 0)²/2, which changes slowly far below 0: Phi(z) = erfcx(-z/√2) e^(-z²/2)/2."""
    below, above = torch.minimum(z, z.new_zeros(())), torch.maximum(z, z.new_zeros(()))
    scaled: Tensor = torch.special.erfcx(-below / math.sqrt(2))
    upper: Tensor = torch.special.log_ndtr(above)
    return scaled.log() + upper


def _log_posterior_variance(process: DiffusionProcess) -> Tensor:
    """Return ln beta_tilde, float64 [T], with its first entry replaced by the second (by ln beta if T = 1)."""
    variance = process.posterior_variance.clone()
    variance[0] = variance[1] if process.num_timesteps > 1 else process.betas[0]
    return variance.log()
