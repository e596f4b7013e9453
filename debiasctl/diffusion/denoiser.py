"""A trained network as a denoiser, which maps (x_t, t) to estimates of x0, eps and v."""

import torch
from torch import Tensor, nn

from debiasctl.api import Estimate
from debiasctl.diffusion.parameterization import Output, Parameterization
from debiasctl.errors import UsageError
from debiasctl.wording import kind_of

_SLACK = 1e-6  # of a t that was computed


class NetworkDenoiser:
    """Network, process and parameterization in one; `nfe` counts forward passes. See `debiasctl.api.Denoiser`.

    With `autocast`, only the network runs in that precision; everything else stays in x_t's dtype. `shape`
    (C, H, W) is that of the images that the network was built for, and `num_classes` the number of its classes, 0 for a
    network without labels; unless they are given, images and labels are not checked.
    """

    def __init__(
        self,
        network: nn.Module,
        parameterization: Parameterization,
        *,
        null_label: int | None = None,
        shape: tuple[int, ...] | None = None,
        num_classes: int | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.network, self.parameterization = network, parameterization
        self.null_label, self.autocast = null_label, autocast
        self.shape, self.num_classes = shape, num_classes
        self.process = parameterization.process
        self.alphas_cumprod, self.num_timesteps = self.process.alphas_cumprod, self.process.num_timesteps
        self.nfe = 0
        self._checked_labels: Tensor | None = None

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W], all at timestep t; `labels` is int64 [N] if conditional.

        Raises:
            UsageError: if t is not one number, or beyond the schedule's ends; or the images or labels are not of the
                network's form.
        """
        t = self._checked(t)
        self._check_images(x_t)
        self._check_labels(labels, x_t.shape[0])
        self.nfe += 1
        levels = self.process.levels(torch.full((x_t.shape[0],), t, dtype=torch.float64))
        with torch.autocast(x_t.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            output = self.parameterization.run(self.network, x_t, levels, labels)
        fraction = output.variance_fraction
        output = Output(output.prediction.to(x_t.dtype), None if fraction is None else fraction.to(x_t.dtype))
        return self.parameterization.estimate(output, x_t, levels)

    def _checked(self, t: float) -> float:
        try:
            value = float(t)
        except (TypeError, ValueError, RuntimeError):
            raise UsageError(f"t is {kind_of(t)}: give one number for all of x_t") from None
        low, high = 0.0, self.num_timesteps - 1.0
        if self.process.continuous:
            low, high = -self.process.place, self.num_timesteps - self.process.place
        if not low - _SLACK <= value <= high + _SLACK:
            raise UsageError(f"t = {value:g}: timesteps run from {low:g} to {high:g}")
        return value

    def _check_images(self, x_t: Tensor) -> None:
        if self.shape is None:
            return
        wanted = f"Give float32 [N, {', '.join(map(str, self.shape))}], noisy images"
        if not isinstance(x_t, Tensor):
            raise UsageError(f"x_t is {kind_of(x_t)}. {wanted}")
        if x_t.dtype != torch.float32 or x_t.shape[1:] != self.shape or x_t.ndim != 1 + len(self.shape):
            raise UsageError(f"x_t is {str(x_t.dtype).removeprefix('torch.')} {list(x_t.shape)}. {wanted}")

    def _check_labels(self, labels: Tensor | None, num: int) -> None:
        if self.num_classes is None or (labels is None and not self.num_classes):
            return
        if not self.num_classes:
            raise UsageError("`labels` were given, and this network was trained without them. Leave them out")
        last = self.num_classes - 1
        none = "" if self.null_label is None else f"; {self.null_label} stands for no class"
        wanted = f"Give int64 [{num}], from 0 to {last}{none}"
        if not isinstance(labels, Tensor):
            given = f"they are {kind_of(labels)}"
            raise UsageError(f"this network needs `labels`, and {given}. {wanted}")
        if labels.dtype != torch.int64 or labels.shape != (num,):
            found = f"{str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
            raise UsageError(f"`labels` are {found}. {wanted}")
        if labels is self._checked_labels and labels.device.type != "cpu":
            return  # a sampler gives one tensor at each step, and looking into it would wait for the GPU
        wrong = (labels < 0) | (labels > (last if self.null_label is None else self.null_label))
        if bool(wrong.any()):
            raise UsageError(f"`labels` has {int(labels[wrong][0])} at index {int(wrong.nonzero()[0])}. {wanted}")
        self._checked_labels = labels
