"""Importance-sampled timesteps."""

from torch import Tensor

from debiasctl.api import TimestepContext, UsageError
from debiasctl.builtin.timesteps._tables import BaseOptions, DrawnUnderBase, normalised


class Importance(DrawnUnderBase):
    """t in proportion to base times effective weight, with the loss corrected by base/q (importance sampling).

    The expected gradient remains that of the weighted loss under the base, while every drawn error has the same weight.
    This lowers the gradient's variance if unweighted gradients have similar sizes over t, but can raise it if the
    weight compensates for different sizes.
    """

    class Options(BaseOptions):
        """The options of importance-sampled timesteps."""

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return q ∝ base · weight, float64 [T] with sum 1, which is 0 where the weight is 0.

        Raises:
            UsageError: if the weight is 0 at every t that the base draws.
        """
        product = self.base(context) * context.weight
        if not bool(product.sum() > 0):
            raise UsageError(
                f"timesteps 'importance': the loss weight is 0 at every t that base={self.options.base.name} draws, "
                "so that nothing would be trained. Choose another base or another weighting"
            )
        return normalised(product)
