"""Extensions: objects called at fixed points of training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.api.backbones import ImageShape
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass
class StepContext:
    """The arguments of an extension's methods: the step in progress (from 0), the network and the optimizer.

    `batch_size` is the number of images per step over all processes, `num_steps` the training's budget, and `seed` the
    run's, from which an extension seeds generators of its own. `averages` are the copies of the network that hold its
    moving averages, the one that is sampled first. The network takes images of `shape` and, if `num_classes` is not 0,
    labels (see `Backbone.build`). Training fills in all of them; their defaults are for tests that make a context.
    """

    step: int
    model: "nn.Module"
    optimizer: "torch.optim.Optimizer"
    batch_size: int = 1
    num_steps: int = 1
    seed: int = 0
    averages: "Sequence[nn.Module]" = ()
    shape: ImageShape | None = None
    num_classes: int = 0


class Extension(Plugin):
    """An object whose methods are called at fixed points of training; override the ones you need.

    With several extensions, each method is called in the order in which the run names them. In several processes every
    one of them calls every method, and has to change the network alike.
    """

    def on_init(self, context: StepContext) -> None:
        """Called once the network, the optimizer and the averages are made, before the checkpoint of step 0.

        What is changed in the network here is part of step 0; the averages are copied from it afterwards. A resumed run
        calls this too, and loads its checkpoint then. A UsageError raised here is reported before the run is made.
        """

    def on_start(self, context: StepContext) -> None:
        """Called before this process's first step, after a resumed checkpoint has been loaded."""

    def learning_rate(self, rate: float, context: StepContext) -> float:
        """Return the network's learning rate for the step in progress, finite and at least 0; by default `rate`.

        `rate` is what `optimizer` states for this step, or what the extension before made of it. A function of the
        step, rather than of what was done before, needs no state to resume exactly.
        """
        return rate

    def before_clipping(self, context: StepContext) -> None:
        """Called once the gradient of the whole batch has been computed, before its norm is taken and it is clipped.

        It is averaged over all processes; under fp16 it is still multiplied by the loss scale, and may not be finite.
        """

    def after_backward(self, context: StepContext) -> None:
        """Called after the backward pass and gradient clipping, before the optimizer's step."""

    def after_step(self, context: StepContext) -> None:
        """Called after the optimizer's step, before the EMA's update."""

    def reconstructed(self, name: str, average: "Tensor", newest: "Tensor") -> "Tensor":
        """Return a parameter of an average that was reconstructed from stored snapshots, as sampling should find it.

        Such an average is a linear combination of others, taken at many steps; `newest` is the parameter's average in
        the newest of these snapshots. No other method of the object is called.
        """
        return average

    def summary(self) -> Mapping[str, int | float | str]:
        """Return figures about the training by name, to be stored with the run and shown: few, and short.

        They are read when training starts and at every logged step, and stored again where they have changed.
        """
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint: tensors, numbers, strings and containers of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
