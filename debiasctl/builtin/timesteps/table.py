"""A distribution of timesteps read from a file."""

from typing import Self

from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import TimestepContext, UsageError
from debiasctl.builtin.timesteps._tables import BaseOptions, DrawnUnderBase, normalised
from debiasctl.builtin.weightings._curves import at_snr
from debiasctl.builtin.weightings.table import TableOptions, on_schedule


class Table(DrawnUnderBase):
    """t in proportion to base times a factor from a CSV file with the header `snr,factor` or `t,factor`.

    Between rows the factor is linear in log SNR or in t. With `corrected` the loss is multiplied by base/q, so that
    its expectation remains the one under the base, and only its variance changes; without it, the drawn distribution is
    part of the objective. The file is read when the option is given, and the run's spec stores its rows.
    """

    class Options(TableOptions, BaseOptions):
        """The options of the table of timesteps."""

        column = "factor"

        corrected: bool = Field(True, description="multiply the loss by base/q, which leaves the objective as it is")

        @model_validator(mode="after")
        def _is_drawn(self) -> Self:
            if self.points is not None and not any(factor for _, factor in self.points):
                raise ValueError("every factor of the table is 0, so that no t would ever be drawn")
            return self

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.corrected = options.corrected

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return q ∝ base · factor, float64 [T] with sum 1.

        Raises:
            UsageError: if the table does not cover the schedule, or is 0 at every t that the base draws.
        """
        levels, factors = on_schedule(self.options, context.snr, what="timesteps table")
        product = self.base(context) * at_snr(context.snr, levels=levels, values=factors)
        if not bool(product.sum() > 0):
            raise UsageError(
                f"timesteps 'table': the factor is 0 at every t that base={self.options.base.name} draws. Choose "
                "another base or another table"
            )
        return normalised(product)
