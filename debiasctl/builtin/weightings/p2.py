"""P2 weighting."""

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, Weighting


class P2(Weighting):
    """(k + SNR)^-gamma on the error of eps: perception-prioritized training (Choi et al., 2022, arXiv 2204.00227)."""

    space = "eps"

    class Options(PluginOptions):
        """The options of P2."""

        k: float = Field(1.0, gt=0, description="keeps the weight finite as SNR goes to 0")
        gamma: float = Field(1.0, ge=0, description="strength; 0 is the constant weighting")

    options: Options

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = (k + SNR)^-gamma."""
        return (self.options.k + snr) ** -self.options.gamma
