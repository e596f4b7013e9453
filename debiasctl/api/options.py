"""The base of every plugin's options, and the names of what a loss or a network is about."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Space = Literal["eps", "x0", "v"]


Prediction = Literal["eps", "x0", "v", "edm"]


class PluginOptions(BaseModel):
    """Base of every plugin's `Options`: frozen, unknown keys refused; describe every field with `Field`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
