"""Min-SNR weighting."""

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, Weighting


class MinSNR(Weighting):
    """min(SNR, gamma) on the error of x0 (Hang et al., 2023, arXiv 2303.09556)."""

    space = "x0"

    class Options(PluginOptions):
        """The options of Min-SNR."""

        gamma: float = Field(5.0, gt=0, description="SNR above which the weight on x0 stops growing")

    options: Options

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_x0 = min(SNR, gamma)."""
        return snr.clamp(max=self.options.gamma)
