"""Products of weightings."""

import copy
from math import prod

from pydantic import Field
from torch import Tensor

from debiasctl.api import NestedWeighting, PluginOptions, Space, UsageError, Weighting, WeightingContext
from debiasctl.diffusion import weight_in


class Product(Weighting):
    """The product of other weightings, each converted to one space first.

    The space matters: the factor that changes nothing is `constant` on eps, `constant-x0` on x0 and `constant-v` on v.
    """

    class Options(PluginOptions):
        """The options of the product."""

        factors: tuple[NestedWeighting, ...] = Field(
            min_length=1, description='the weightings: [debiased,"p2:gamma=0.5"]'
        )
        space: Space = Field("eps", description="the space in which the factors are multiplied: eps, x0, v or flow")

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._factors = [choice.create() for choice in options.factors]
        for choice, factor in zip(options.factors, self._factors, strict=True):
            if factor.is_learned:
                raise UsageError(
                    f"weighting product: its factor '{choice.name}' is learned, but a product cannot be. "
                    f"Use the product as its base instead: {choice.name}:base='product:...'"
                )

    @property
    def space(self) -> Space:
        """The space given in the options."""
        return self.options.space

    @property
    def varies(self) -> bool:
        """Whether a factor changes during training."""
        return any(factor.varies for factor in self._factors)

    def at(self, context: WeightingContext) -> "Product":
        """Return the product of the factors' weightings at this point."""
        settled = copy.copy(self)
        settled._factors = [factor.at(context) for factor in self._factors]
        return settled

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_space, the product of the factors' w_space."""
        return prod((weight_in(factor, self.space, snr=snr) for factor in self._factors), start=snr.new_ones(snr.shape))
