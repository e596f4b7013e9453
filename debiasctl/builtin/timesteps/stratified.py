"""Stratified timesteps."""

from torch import Tensor

from debiasctl.api import TimestepContext
from debiasctl.builtin.timesteps._tables import BaseOptions, DrawnUnderBase


class Stratified(DrawnUnderBase):
    """Each batch spread evenly over the base distribution (Kingma et al., 2021, arXiv 2107.00630, App. I.1).

    One uniform number is shared by the whole batch and shifted by position/batch_size: each t follows the base
    distribution, so that the expected loss is unchanged, and together they cover the whole range.
    """

    class Options(BaseOptions):
        """The options of stratified timesteps."""

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return the base itself, float64 [T]."""
        return self.base(context)

    def spread(self, draws: Tensor, shared: Tensor, positions: Tensor, batch_size: int) -> Tensor:
        """Return (shared + position/batch_size) mod 1, float64 [N] in [0, 1), without using the independent `draws`."""
        return (shared + positions.to(draws.dtype) / batch_size) % 1
