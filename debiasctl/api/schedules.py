"""Schedules: tables of noise levels."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pydantic import Field

from debiasctl.api.options import PluginOptions

if TYPE_CHECKING:
    from torch import Tensor


class ScheduleOptions(PluginOptions):
    """Base of every schedule's options: what any table of noise levels has."""

    num_timesteps: int = Field(1000, ge=2, le=1_000_000, description="T, the number of noise levels")
    zero_terminal_snr: bool = Field(False, description="rescale so that the last SNR is 0 (arXiv 2305.08891)")
    continuous: bool = Field(False, description="train between the levels too, log-SNR interpolated in t")


@runtime_checkable
class Schedule(Protocol):
    """A table of noise levels for t = 0 … num_timesteps - 1. Its `Options` derive from `ScheduleOptions`."""

    def alphas_cumprod(self) -> "Tensor":
        """float64 [num_timesteps], decreasing, in (0, 1); the core does the zero-terminal rescaling."""
        ...
