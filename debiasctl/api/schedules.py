"""Schedules: noise levels as functions, or as tables that are interpolated."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from debiasctl.api.options import PluginOptions
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


class ScheduleOptions(PluginOptions):
    """The base of every schedule's options, with those that all schedules have."""

    num_timesteps: int = Field(1000, ge=2, le=1_000_000, description="T, the number of noise levels")
    zero_terminal_snr: bool = Field(False, description="rescale so that the last SNR is 0 (arXiv 2305.08891)")
    continuous: bool = Field(
        False, description="also train between timesteps, at the levels that the schedule has there"
    )


class Schedule(Plugin):
    """Noise levels as a function of u in [0, 1], and for timesteps t = 0 … T - 1. Its `Options` are `ScheduleOptions`.

    A schedule overrides `log_snr`, from which its table follows, or `alphas_cumprod` if it is a table by definition
    (betas multiplied up), which is interpolated between its timesteps. Timestep t stands for the share [t/T, (t + 1)/T)
    of u, and lies in it at `place`: in the middle, or at its end if place is 1. Continuous training draws u.
    """

    Options: ClassVar[type[PluginOptions]] = ScheduleOptions
    options: ScheduleOptions
    place: ClassVar[float] = 0.5

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Derive the table from the function, where a schedule has a function alone."""
        super().__init_subclass__(**kwargs)
        if cls.log_snr is not Schedule.log_snr and getattr(cls.alphas_cumprod, "__isabstractmethod__", False):
            cls.alphas_cumprod = Schedule.derived_table  # type: ignore[method-assign]

    def log_snr(self, u: "Tensor") -> "Tensor":
        """Return log SNR at u, float64 of u's shape, falling; it may be infinite at u = 0 and -infinity at u = 1.

        By default it is that of the table, before any rescaling: linear in u between timesteps, and so half a step
        beyond the first and the last.
        """
        import torch

        return interpolated(torch.logit(self.alphas_cumprod()), u * self.options.num_timesteps - self.place)

    @abstractmethod
    def alphas_cumprod(self) -> "Tensor":
        """Return alpha², float64 [num_timesteps], decreasing, in [0, 1), before any rescaling to zero terminal SNR.

        Where `log_snr` is overridden, this follows from it, and need not be written.
        """

    @classmethod
    def resolve_options(cls, options: Any, image_size: int) -> Any:
        """Fill in the options that depend on the images' height and width; the run's spec stores the result."""
        return options

    def derived_table(self) -> "Tensor":
        """The table that `log_snr` gives, alpha² = SNR/(SNR + 1), float64 [num_timesteps]."""
        import torch

        t = torch.arange(self.options.num_timesteps, dtype=torch.float64)
        return torch.sigmoid(self.log_snr((t + self.place) / self.options.num_timesteps))


def interpolated(log_snr: "Tensor", t: "Tensor") -> "Tensor":
    """The log-SNR at t [N] by that at whole timesteps [T]: linear in t, beyond the ends as in the outermost step."""
    import torch

    t = t.to(torch.float64)
    below = t.floor().long().clamp(0, max(0, len(log_snr) - 2))
    above = (below + 1).clamp(max=len(log_snr) - 1)
    return torch.lerp(log_snr[below], log_snr[above], t - below)
