"""Samplers: from noise to images by a trained network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """One estimate in its three equivalent forms, each [N, C, H, W]."""

    x0: "Tensor"
    eps: "Tensor"
    v: "Tensor"
    variance_fraction: "Tensor | None" = None  # [N, C, H, W], 0 for beta_tilde to 1 for beta, where it is learned


class Denoiser(Protocol):
    """A trained network with its process and parameterization; counts its forwards in `nfe`."""

    num_timesteps: int
    alphas_cumprod: "Tensor"  # float64 [num_timesteps], on the CPU
    nfe: int
    null_label: int | None  # the class number that stands for none, where the network was trained with it

    def __call__(self, x_t: "Tensor", t: float, labels: "Tensor | None" = None) -> Estimate:
        """The estimate for x_t [N, C, H, W] at timestep `t`, the same for all images.

        `t` may lie between two timesteps: log-SNR is linear between them.
        """
        ...


@runtime_checkable
class Sampler(Protocol):
    """Draws images, x_T to x_0, by `num_steps` steps.

    A class may also have `grid(process, num_steps)`, which raises UsageError for steps that it cannot make.
    """

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
        ...
