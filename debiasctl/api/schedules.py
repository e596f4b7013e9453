"""Schedules: tables of noise levels."""

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from debiasctl.api.options import PluginOptions
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


class ScheduleOptions(PluginOptions):
    """The base of every schedule's options, with those that all schedules have."""

    num_timesteps: int = Field(1000, ge=2, le=1_000_000, description="T, the number of noise levels")
    zero_terminal_snr: bool = Field(False, description="rescale so that the last SNR is 0 (arXiv 2305.08891)")
    continuous: bool = Field(False, description="also train between timesteps, with log-SNR interpolated in t")


class Schedule(Plugin):
    """A table of noise levels for t = 0 … num_timesteps - 1. Its `Options` derive from `ScheduleOptions`."""

    Options: ClassVar[type[PluginOptions]] = ScheduleOptions
    options: ScheduleOptions

    @abstractmethod
    def alphas_cumprod(self) -> "Tensor":
        """Return alpha², float64 [num_timesteps], decreasing, in (0, 1), before any rescaling to zero terminal SNR."""
