"""The loss shared by all parameterizations and weightings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from debiasctl.diffusion.process import NoiseLevels, per_image
from debiasctl.errors import DebiasctlError

Errors = Callable[[Tensor, Tensor], Tensor]  # of a prediction and its target, [N, C, H, W], to [N]


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """||F - target||² averaged over channels and pixels, from [N, C, H, W] to [N]."""
    return (prediction - target).square().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class Huber:
    """A pseudo-Huber loss, as sd-scripts and SimpleTuner have it under the names `huber` and `smooth_l1`.

    For each error d of a pixel it is 2c(√(d² + c²) - c): about d² where d is well below c, and 2c|d| well above it. As
    `smooth_l1` it is the same divided by c: about d²/c below and 2|d| above. c depends on the noise level:

    constant     c
    exponential  c^(t/T), from 1 where there is no noise to c
    snr          (1 - c)/(1 + sigma/alpha)² + c, from 1 to c; 1/(1 + sigma/alpha) is rectified flow's 1 - s

    On rectified flow t/T is time before a shift, where they have the shifted s. Their factor huber_scale, which is 1
    unless set, is left out. d is in the unit of what the network predicts, and so is c: unlike squared errors, Huber
    losses of different predictions are not multiples of one another.
    """

    c: float
    schedule: Literal["constant", "exponential", "snr"]
    smooth_l1: bool = False

    def threshold(self, levels: NoiseLevels, *, num_timesteps: int) -> Tensor:
        """c at N noise levels of a process of T = `num_timesteps`, float64 [N]."""
        if self.schedule == "constant":
            return torch.full_like(levels.snr, self.c)
        if self.schedule == "exponential":
            return torch.as_tensor(self.c, dtype=torch.float64) ** (levels.t.to(torch.float64) / num_timesteps)
        return (1 - self.c) * (levels.alpha / (levels.alpha + levels.sigma)) ** 2 + self.c

    def at(self, levels: NoiseLevels, *, num_timesteps: int) -> Errors:
        """The loss at N noise levels: averaged over channels and pixels, from [N, C, H, W] to [N]."""
        threshold = self.threshold(levels, num_timesteps=num_timesteps)

        def errors(prediction: Tensor, target: Tensor) -> Tensor:
            (c,) = per_image(threshold, like=prediction)
            squares = (prediction - target).square()
            # √(d² + c²) - c without the difference of two numbers that are nearly equal where d is small
            losses = 2 * squares / ((squares + c * c).sqrt() + c)
            return (losses if self.smooth_l1 else c * losses).flatten(1).mean(dim=1)

        return errors


def weighted_losses(prediction: Tensor, target: Tensor, weight: Tensor, *, errors: Errors = squared_error) -> Tensor:
    """Each sample's weight * ||F - target||², [N]; their mean is the loss (arXiv 2310.08442: w = 1/√SNR on eps).

    `prediction` and `target` are [N, C, H, W]; `weight` [N] is the effective weight on F at each sample's t. `errors`
    is the squared error or takes its place.
    """
    return weight * errors(prediction, target)


def uncertain_losses(losses: Tensor, log_variance: Tensor) -> Tensor:
    """Each sample's loss e^-u + u, [N], for weighted losses [N] and a learned u [N] (arXiv 2312.02696, Eq. 21).

    It is minimal where u is the log of the expected loss at that noise level, regardless of the weight.

    Raises:
        DebiasctlError: if u has another shape, which would broadcast every loss against every u.
    """
    if log_variance.shape != losses.shape:
        raise DebiasctlError(
            f"the learned weighting gave u of shape {tuple(log_variance.shape)} for losses of shape "
            f"{tuple(losses.shape)}. Its module maps [N] to [N]"
        )
    return losses * (-log_variance).exp() + log_variance
