"""Extensions: objects called at fixed points of training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass
class StepContext:
    """The arguments of an extension's methods: the step in progress (from 0), the network and the optimizer.

    `batch_size` is the number of images per step over all processes.
    """

    step: int
    model: "nn.Module"
    optimizer: "torch.optim.Optimizer"
    batch_size: int = 1


class Extension(Plugin):
    """An object whose methods are called at fixed points of training; override the ones you need."""

    def on_start(self, context: StepContext) -> None:
        """Called before this process's first step, after a resumed checkpoint has been loaded."""

    def learning_rate(self, rate: float, context: StepContext) -> float:
        """Return the network's learning rate for the step in progress, finite and at least 0; by default `rate`.

        `rate` is what `optimizer` states for this step, or what the extension before made of it. A function of the
        step, rather than of what was done before, needs no state to resume exactly.
        """
        return rate

    def after_backward(self, context: StepContext) -> None:
        """Called after the backward pass and gradient clipping, before the optimizer's step."""

    def after_step(self, context: StepContext) -> None:
        """Called after the optimizer's step, before the EMA's update."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint: tensors, numbers, strings and containers of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
