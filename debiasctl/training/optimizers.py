"""The optimizers of a training, the network's and a learned weighting's, which step together or not at all."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from debiasctl.specs.sections import OptimizerSection
from debiasctl.training.guard import Guard


@dataclass
class LearnedWeight:
    """The learned module of a weighting, with its own optimizer."""

    module: nn.Module
    optimizer: torch.optim.Optimizer


class Optimizers:
    """Clears, clips and applies gradients; iterating yields the torch optimizers, the network's first.

    fp16's scaler skips the step of an optimizer whose gradients are not finite. A step skipped for one is skipped for
    both: a gradient that is not finite on one side is carried over to the other, without waiting for the device.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        accelerator: Accelerator,
        guard: Guard,
        learned: LearnedWeight | None = None,
    ) -> None:
        """Take the network as it is called (`model`) and its optimizer as prepared by Accelerate."""
        self.model, self.optimizer, self.learned = model, optimizer, learned
        self._accelerator, self._guard = accelerator, guard

    def __iter__(self) -> Iterator[torch.optim.Optimizer]:
        yield self.optimizer
        if self.learned is not None:
            yield self.learned.optimizer

    def begin(self, lr: float) -> None:
        """Set the network's learning rate for the step, and clear all gradients."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        for optimizer in self:
            optimizer.zero_grad(set_to_none=True)

    def clip(self, max_norm: float | None) -> Tensor:
        """Clip the network's gradient to `max_norm`, and return its norm before clipping, []."""
        if self.learned is not None and self._accelerator.scaler is not None:
            _spoil(self._accelerator.unwrap_model(self.model), unless=_are_finite(self.learned.module))
        norm = self._accelerator.clip_grad_norm_(self.model.parameters(), max_norm or math.inf)
        norm = torch.as_tensor(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        if self.learned is not None and self._accelerator.scaler is not None:
            _spoil(self.learned.module, unless=norm.isfinite())
        return norm

    def step(self) -> None:
        """Apply the gradients, unless the guard has found a step whose numbers are not finite (fused optimizers)."""
        scaler, spoiled = self._accelerator.scaler, self._guard.spoiled
        if self.learned is not None and scaler is None:
            self.learned.optimizer.step()
        elif self.learned is not None:
            scaler.step(self.learned.optimizer)  # Accelerate does not know this one
        inner = inner_optimizer(self.optimizer)
        if spoiled is not None and inner.defaults.get("fused"):
            inner.found_inf = spoiled  # type: ignore[attr-defined]  # how torch lets the device skip a fused step
        self.optimizer.step()  # updates fp16's scaler, and so comes last


def inner_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer itself, without Accelerate's wrapper."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def _are_finite(module: nn.Module) -> Tensor:
    """Whether all gradients are finite, bool []."""
    return torch.stack([one.grad.isfinite().all() for one in module.parameters() if one.grad is not None]).all()


def _spoil(module: nn.Module, *, unless: Tensor) -> None:
    """Make a gradient NaN unless `unless` (bool []), so that fp16's scaler skips the step; the host does not wait."""
    gradient = next(one.grad for one in module.parameters() if one.grad is not None)
    local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
    local.masked_fill_(~unless, math.nan)


def learning_rate(spec: OptimizerSection, step: int, num_steps: int) -> float:
    """The learning rate at `step` (from 0): linear warm-up, then constant or decaying to 0 at `num_steps`."""
    warmup = min(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
    progress = max(0, step - spec.warmup_steps) / max(1, num_steps - spec.warmup_steps)
    decay = {"none": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[spec.decay]
    return spec.lr * warmup * decay
