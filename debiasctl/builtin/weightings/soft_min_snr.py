"""Soft-Min-SNR weighting."""

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, Weighting


class SoftMinSNR(Weighting):
    """SNR gamma/(SNR + gamma) on the error of x0: Min-SNR without its kink (Crowson et al., 2024, arXiv 2401.11605).

    With gamma = 1/sigma_data² it is k-diffusion's; up to a constant it equals P2 with k = gamma and exponent 1.
    """

    space = "x0"

    class Options(PluginOptions):
        """The options of soft-Min-SNR."""

        gamma: float = Field(5.0, gt=0, description="SNR around which the weight on x0 stops growing")

    options: Options

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_x0 = SNR gamma/(SNR + gamma)."""
        gamma = self.options.gamma
        return snr * gamma / (snr + gamma)
