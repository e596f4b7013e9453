"""Stratified timesteps."""

from torch import Tensor

from debiasctl.api import TimestepContext
from debiasctl.builtin.timesteps._tables import BaseOptions, DrawnUnderBase


class Stratified(DrawnUnderBase):
    """Each batch spread evenly over the base distribution (Kingma et al., 2021, arXiv 2107.00630, App. I.1).

    One uniform number serves the whole batch, shifted by position/batch_size: every single t has the base as its
    distribution, so that the expected loss is unchanged, and together they leave no part of the range out.
    """

    class Options(BaseOptions):
        """Options of stratified timesteps."""

    def probabilities(self, context: TimestepContext) -> Tensor:
        """q is the base itself, float64 [T]."""
        return self.base(context)

    def spread(self, draws: Tensor, shared: Tensor, positions: Tensor, batch_size: int) -> Tensor:
        """(shared + position/batch_size) mod 1, float64 [N] in [0, 1); the independent `draws` are not needed."""
        return (shared + positions.to(draws.dtype) / batch_size) % 1
