"""What the network predicts, and the exact conversions among eps, x0 and v."""

from typing import get_args

import torch
from torch import Tensor

from debiasctl.api import Estimate, Space
from debiasctl.diffusion.process import DiffusionProcess, at
from debiasctl.errors import UsageError

PREDICTIONS: tuple[Space, ...] = get_args(Space)


def check_prediction(prediction: str, process: DiffusionProcess) -> None:
    """Refuse what cannot be meant.

    Raises:
        UsageError: an unknown prediction type, or eps where some SNR is 0: there x_t is all noise, so that the
            estimate of x0 would be divided by alpha = 0.
    """
    if prediction not in PREDICTIONS:
        raise UsageError(f"unknown prediction '{prediction}'. Known: {', '.join(PREDICTIONS)}")
    if prediction == "eps" and bool((process.snr == 0).any()):
        raise UsageError(
            "eps-prediction cannot be used on a schedule with zero terminal SNR: at its last timestep x_t is the noise "
            "itself, and no image follows from a prediction of it. Use --prediction v or x0, or another schedule"
        )


def target(prediction: Space, *, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the network is trained to give, [N, C, H, W]; v = (alpha eps - sigma x0)/n, n² = alpha² + sigma²."""
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x0
    return (alpha * eps - sigma * x0) / torch.sqrt(alpha**2 + sigma**2)


def convert(value: Tensor, prediction: Space, *, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
    """One estimate, given as eps, x0 or v, in all three forms: each is exact, as x_t = alpha x0 + sigma eps.

    `value` and `x_t` are [N, C, H, W]; alpha and sigma broadcast to them.
    """
    n = torch.sqrt(alpha**2 + sigma**2)
    if prediction == "v":  # v turns (x_t, v) into (x0, eps) by a rotation (arXiv 2202.00512, App. D)
        return Estimate(x0=(alpha * x_t / n - sigma * value) / n, eps=(sigma * x_t / n + alpha * value) / n, v=value)
    if prediction == "eps":
        x0, eps = (x_t - sigma * value) / alpha, value
    else:
        x0, eps = value, (x_t - alpha * value) / sigma
    return Estimate(x0=x0, eps=eps, v=target("v", x0=x0, eps=eps, alpha=alpha, sigma=sigma))


class Parameterization:
    """A prediction type on a process: what its network is trained to give, and what follows from its output."""

    def __init__(self, prediction: Space, process: DiffusionProcess) -> None:
        check_prediction(prediction, process)
        self.prediction, self.process = prediction, process

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The network's target [N, C, H, W] at t int64 [N]."""
        alpha, sigma = self._coefficients(t, like=x0)
        return target(self.prediction, x0=x0, eps=eps, alpha=alpha, sigma=sigma)

    def estimate(self, prediction: Tensor, x_t: Tensor, t: Tensor) -> Estimate:
        """The network's output F at t int64 [N] as x0, eps and v, each [N, C, H, W]."""
        alpha, sigma = self._coefficients(t, like=x_t)
        return convert(prediction, self.prediction, x_t=x_t, alpha=alpha, sigma=sigma)

    def _coefficients(self, t: Tensor, *, like: Tensor) -> tuple[Tensor, Tensor]:
        return at(self.process.alpha, t, like=like), at(self.process.sigma, t, like=like)
