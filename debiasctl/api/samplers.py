"""Samplers, which turn noise into images with a trained network."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from debiasctl.api.options import Prediction
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A network's estimate in its equivalent forms, each [N, C, H, W].

    `prediction` is the form that the network itself gave, if the estimate is that: the others were computed from it.
    """

    x0: "Tensor"
    eps: "Tensor"
    v: "Tensor"
    variance_fraction: "Tensor | None" = None  # [N, C, H, W], from 0 (beta_tilde) to 1 (beta), if learned
    prediction: Prediction | None = None

    @property
    def flow(self) -> "Tensor":
        """Rectified flow's velocity, eps - x0."""
        return self.eps - self.x0


@dataclass(frozen=True)
class Level:
    """A noise level, x_t = alpha x0 + sigma eps with alpha² + sigma² = 1; `t` may lie between timesteps."""

    t: float
    alpha: float
    sigma: float

    @property
    def half_log_snr(self) -> float:
        """ln(alpha/sigma), the lambda of DPM-Solver (arXiv 2206.00927); infinite if one of them is 0."""
        if self.alpha == 0:
            return -math.inf
        return math.log(self.alpha / self.sigma) if self.sigma else math.inf


class Process(Protocol):
    """The noise levels that a network was trained on."""

    @property
    def num_timesteps(self) -> int:
        """The number of timesteps T."""
        ...

    @property
    def alphas_cumprod(self) -> "Tensor":
        """The table of alpha² at t = 0 … T - 1, float64 [num_timesteps] on the CPU."""
        ...


class Denoiser(Process, Protocol):
    """A trained network with its process and parameterization; it counts its forward passes in `nfe`."""

    nfe: int
    null_label: int | None  # the class number for no class, if the network was trained with label dropout

    def __call__(self, x_t: "Tensor", t: float, labels: "Tensor | None" = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W] at timestep `t`, which is the same for all images.

        `t` may lie between two timesteps: log-SNR is linear between them, or the schedule's own function of t.
        """
        ...


class Sampler(Plugin):
    """An algorithm that draws images from noise, x_T to x_0, in `num_steps` steps."""

    @abstractmethod
    def __call__(
        self,
        denoiser: Denoiser,
        x: "Tensor",
        *,
        num_steps: int,
        noise: "Callable[[int], Tensor]",
        labels: "Tensor | None" = None,
        on_step: "Callable[[int, Tensor, Tensor], None] | None" = None,
    ) -> "Tensor":
        """Draw images, float [N, C, H, W] in about [-1, 1], from standard normal noise `x` of the same shape.

        `noise(k)` is standard normal noise of x's shape for the k-th step, the same at every call. `on_step(done, x,
        x0)` is called after each step with x and the estimate of x0 [N, C, H, W] that it was computed from.
        """

    def grid(self, process: Process, num_steps: int) -> "Sequence[Level] | None":
        """Return the `num_steps` + 1 levels that it visits, the noisiest first, or None if it has no fixed levels.

        Raises:
            UsageError: if it cannot make this many steps on this process.
        """
        return None
