"""A loss weighting."""

import torch
from debiasctl.api import PluginOptions, Weighting
from pydantic import Field
from torch import Tensor


class MyWeighting(Weighting):
    """SNR^-power on the error of eps: constant at power 0, the weight 1/√SNR of arXiv 2310.08442 at 1/2."""

    space = "eps"  # the quantity whose error the formula is for: "eps", "x0", "v" or "flow"

    class Options(PluginOptions):
        """The options of the weighting."""

        power: float = Field(0.25, ge=0, le=1, description="how steeply the weight falls with SNR")

    options: Options

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = SNR^-power, float64 with the shape of `snr`."""
        return torch.pow(snr, -self.options.power)
