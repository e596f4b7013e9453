"""Rectified flow's noise levels."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import Schedule, ScheduleOptions

_SHIFT_AT, _SIZE = 3.0, 1024  # 2403.03206, Sec. 5.3.2
_UNSHIFTED_BELOW = 256


class Flow(Schedule):
    """Rectified flow's noise levels: x_s = (1 - s) x0 + s eps with s uniform (SD3: Esser et al., 2024, 2403.03206).

    Timestep t has s = (t + 1)/T, shifted to shift s/(1 + (shift - 1) s), so that the last is noise alone, as in
    diffusers' FlowMatchEulerDiscreteScheduler; continuous training draws s from all of (0, 1) before the shift. The
    process is written as variance-preserving, x_t = x_s/√(s² + (1 - s)²), and with flow-prediction the network gets x_s
    itself and the time 1000 s.

    shift=auto follows SD3, which shifts by √(m/n) for m pixels and by 3 at 1024²: 3 image_size/1024 from 256 pixels a
    side on, but at least 1, and 1 below that. A run stores the number; where no images are given, it is 1.
    """

    place = 1.0

    class Options(ScheduleOptions):
        """The options of rectified flow's noise levels."""

        continuous: bool = Field(True, description="also train between timesteps, as flow models do, s uniform")
        shift: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
            "auto", description="above 1, more noise: s becomes shift s/(1 + (shift - 1) s); auto: by the image size"
        )

        @model_validator(mode="after")
        def _ends_in_noise(self) -> "Flow.Options":
            if self.zero_terminal_snr:
                raise ValueError("zero_terminal_snr has no effect on rectified flow, whose last SNR is 0. Leave it out")
            return self

    options: Options

    @classmethod
    def resolve_options(cls, options: Any, image_size: int) -> Any:
        """Replace shift=auto by its number for images of this height and width."""
        if options.shift != "auto":
            return options
        shift = 1.0 if image_size < _UNSHIFTED_BELOW else max(1.0, _SHIFT_AT * image_size / _SIZE)
        return options.model_copy(update={"shift": shift})

    def log_snr(self, u: Tensor) -> Tensor:
        """Return 2 ln((1 - s)/s) at the shifted s, float64, which is 2 ln((1 - u)/u) - 2 ln shift."""
        shift = 1.0 if self.options.shift == "auto" else self.options.shift
        u = u.to(torch.float64)
        return 2 * (torch.log1p(-u) - u.log() - torch.tensor(shift, dtype=torch.float64).log())
