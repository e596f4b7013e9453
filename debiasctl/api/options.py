"""The base of every plugin's options, and the names of weighting spaces and prediction types."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Space = Literal["eps", "x0", "v"]


Prediction = Literal["eps", "x0", "v", "edm"]


class PluginOptions(BaseModel):
    """The base of every plugin's `Options`, frozen and without unknown keys; describe every field with `Field`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
