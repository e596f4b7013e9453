"""A noise schedule given as a table of betas."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import Schedule, ScheduleOptions
from debiasctl.diffusion import alphas_cumprod_from_betas

Beta = Annotated[float, Field(gt=0, lt=1)]


class Betas(Schedule):
    """Betas as a list, such as `trained_betas` of a scheduler of diffusers."""

    class Options(ScheduleOptions):
        """The list, which is as long as there are timesteps."""

        betas: tuple[Beta, ...] = Field(
            tuple(1e-4 + (0.02 - 1e-4) * t / 999 for t in range(1000)),
            min_length=2,
            description="beta of each timestep, the first for the least noise; by default those of linear",
        )

        @model_validator(mode="before")
        @classmethod
        def _as_many_as_given(cls, data: Any) -> Any:
            given = data.get("betas") if isinstance(data, Mapping) else None
            return {"num_timesteps": len(given), **data} if isinstance(given, list | tuple) else data

        @model_validator(mode="after")
        def _counted(self) -> Self:
            if len(self.betas) != self.num_timesteps:
                raise ValueError(
                    f"betas has {len(self.betas)} values and num_timesteps is {self.num_timesteps}: give one for each"
                )
            return self

    options: Options

    def alphas_cumprod(self) -> Tensor:
        """Return cumprod(1 - betas), float64 [num_timesteps]."""
        return alphas_cumprod_from_betas(torch.tensor(self.options.betas, dtype=torch.float64))
