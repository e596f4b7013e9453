"""Samplers: from noise to images by a trained network."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """One estimate in its three equivalent forms, each [N, C, H, W]."""

    x0: "Tensor"
    eps: "Tensor"
    v: "Tensor"
    variance_fraction: "Tensor | None" = None  # [N, C, H, W], 0 for beta_tilde to 1 for beta, where it is learned


@dataclass(frozen=True)
class Level:
    """One noise level: x_t = alpha x0 + sigma eps with alpha² + sigma² = 1; `t` may lie between timesteps."""

    t: float
    alpha: float
    sigma: float

    @property
    def half_log_snr(self) -> float:
        """ln(alpha/sigma), the lambda of DPM-Solver (arXiv 2206.00927); infinite where one of them is 0."""
        if self.alpha == 0:
            return -math.inf
        return math.log(self.alpha / self.sigma) if self.sigma else math.inf


class Process(Protocol):
    """The noise levels that a network was trained on."""

    @property
    def num_timesteps(self) -> int:
        """T."""
        ...

    @property
    def alphas_cumprod(self) -> "Tensor":
        """float64 [num_timesteps], on the CPU; alpha² at t = 0 … T - 1."""
        ...


class Denoiser(Process, Protocol):
    """A trained network with its process and parameterization; counts its forwards in `nfe`."""

    nfe: int
    null_label: int | None  # the class number that stands for none, where the network was trained with it

    def __call__(self, x_t: "Tensor", t: float, labels: "Tensor | None" = None) -> Estimate:
        """The estimate for x_t [N, C, H, W] at timestep `t`, the same for all images.

        `t` may lie between two timesteps: log-SNR is linear between them.
        """
        ...


class Sampler(Plugin):
    """Draws images, x_T to x_0, by `num_steps` steps."""

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
        """Float [N, C, H, W] in about [-1, 1].

        `noise(k)` is standard normal noise of x's shape for the k-th step, the same whenever it is asked for.
        `on_step(done, x, x0)` is called after each step, with x and the estimate of x0 [N, C, H, W] it was made from.
        """

    def grid(self, process: Process, num_steps: int) -> "Sequence[Level] | None":
        """The `num_steps` + 1 levels that it visits, the noisiest first, or None where it does not say.

        Raises:
            UsageError: if it cannot make so many steps on this process.
        """
        return None
