"""Forced weight normalization."""

from torch import nn

from debiasctl.api import Extension, StepContext, UsageError
from debiasctl_edm2.magnitude import UnitWeight


class ForcedWeightNormalization(Extension):
    """Keep each stored weight vector at unit magnitude (EDM2: Karras et al., 2024, arXiv 2312.02696, Alg. 1).

    After each step of the optimizer the weight vectors are scaled back to unit magnitude. The layers scale them when
    they are used as well, so that what the network computes does not change, and gradients are orthogonal to the
    vectors. Without it they grow with every step, which lowers the effective learning rate layer by layer. It belongs
    to networks with such layers: the backbone edm2. Averages of weights are made of the scaled ones, and are scaled
    again when they are used.
    """

    def on_init(self, context: StepContext) -> None:
        """Scale the weights that training starts from, which may come from another run.

        Raises:
            UsageError: if the network has no layers that scale their weights themselves.
        """
        if not _layers(context.model):
            raise UsageError(
                "forced-weight-normalization: this network has no layers that scale their weights when they use them, "
                "so that forcing the weights would change what it computes. Use `model.backbone=edm2`, or leave "
                "forced-weight-normalization out of `extensions`"
            )
        self.after_step(context)

    def after_step(self, context: StepContext) -> None:
        """Scale all weight vectors to unit magnitude, before they enter the averages."""
        for layer in _layers(context.model):
            layer.normalize_()


def _layers(model: nn.Module) -> list[UnitWeight]:
    return [module for module in model.modules() if isinstance(module, UnitWeight)]
