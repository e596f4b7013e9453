"""Importance-sampled timesteps."""

from torch import Tensor

from debiasctl.api import TimestepContext, UsageError
from debiasctl.builtin.timesteps._tables import BaseOptions, DrawnUnderBase, normalised


class Importance(DrawnUnderBase):
    """t in proportion to base times effective weight, the loss then corrected by base/q (importance sampling).

    The expected gradient stays that of the weighted loss under the base, while every drawn error counts alike. That
    need not lower the gradient's variance: it does where the unweighted gradients are of one size over t, and can
    raise it where the weight makes up for gradients that are not.
    """

    class Options(BaseOptions):
        """Options of importance-sampled timesteps."""

    def probabilities(self, context: TimestepContext) -> Tensor:
        """q ∝ base · weight, float64 [T] with sum 1; 0 where the weight is 0, since nothing is learned there.

        Raises:
            UsageError: the weight is 0 at every t that the base draws.
        """
        product = self.base(context) * context.weight
        if not bool(product.sum() > 0):
            raise UsageError(
                f"timesteps 'importance': the loss weight is 0 at every t that base={self.options.base.name} draws, "
                "so that nothing would be trained. Choose another base or another weighting"
            )
        return normalised(product)
