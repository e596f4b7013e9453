"""An extension of training."""

from collections.abc import Mapping
from typing import Any

from debiasctl.api import Extension, PluginOptions, StepContext
from pydantic import Field
from torch import Tensor


class MyExtension(Extension):
    """Pull the weights towards those that training begins with: L2-SP (Li et al., 2018, arXiv 1802.01483).

    strength (w - w_start) is added to each gradient, which is that of strength/2 |w - w_start|². It is meant for runs
    that begin with another's weights (`--init-from`).
    """

    class Options(PluginOptions):
        """The options of the pull."""

        strength: float = Field(0.01, ge=0, le=100, description="how strongly the weights are pulled")

    options: Options

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.start: dict[str, Tensor] = {}

    def on_start(self, context: StepContext) -> None:
        """Keep the weights, unless this is a resumed run, whose own have been loaded."""
        for name, weight in context.model.named_parameters():
            self.start[name] = self.start.get(name, weight.detach().clone()).to(weight.device)

    def after_backward(self, context: StepContext) -> None:
        """Add the pull to the gradients."""
        for name, weight in context.model.named_parameters():
            if weight.grad is not None:
                weight.grad.add_(weight.detach() - self.start[name], alpha=self.options.strength)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights that training began with; none before `on_start`."""
        return {"start": dict(self.start)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        self.start = dict(state["start"])
