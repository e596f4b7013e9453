"""A noise schedule."""

from typing import Self

from debiasctl.api import Schedule, ScheduleOptions
from pydantic import Field, model_validator
from torch import Tensor


class MySchedule(Schedule):
    """log SNR falls linearly in u, from `highest` to `lowest` (Kingma et al., 2021, arXiv 2107.00630, with fixed ends).

    debiasctl derives the table of `num_timesteps` levels from this function.
    """

    class Options(ScheduleOptions):
        """The options of the schedule, beside those that all schedules have."""

        highest: float = Field(10.0, ge=-20, le=20, description="log SNR at u = 0, where hardly any noise is")
        lowest: float = Field(-10.0, ge=-20, le=20, description="log SNR at u = 1, where hardly any image is")

        @model_validator(mode="after")
        def _falls(self) -> Self:
            if self.lowest >= self.highest:
                raise ValueError(f"lowest ({self.lowest:g}) must be less than highest ({self.highest:g})")
            return self

    options: Options

    def log_snr(self, u: Tensor) -> Tensor:
        """Return log SNR = highest + (lowest - highest) u, float64 with the shape of `u`, which is in [0, 1]."""
        return self.options.highest + (self.options.lowest - self.options.highest) * u
