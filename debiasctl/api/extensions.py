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
    """What an extension sees: the step in progress (0-based), the network and the optimizer."""

    step: int
    model: "nn.Module"
    optimizer: "torch.optim.Optimizer"


class Extension(Plugin):
    """An object that is called at fixed points of training; override what is needed."""

    def on_start(self, context: StepContext) -> None:
        """Before the first step of this process, after a resumed checkpoint was loaded."""

    def after_backward(self, context: StepContext) -> None:
        """After the backward pass and gradient clipping, before the optimizer's step."""

    def after_step(self, context: StepContext) -> None:
        """After the optimizer's step, before the EMA's."""

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint: tensors, numbers, strings and containers of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of a checkpoint."""
