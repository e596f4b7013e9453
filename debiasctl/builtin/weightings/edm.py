"""EDM's weighting."""

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, Weighting


class EDM(Weighting):
    """SNR + 1/sigma_data² on x0: weight 1 on the preconditioned network's output (Karras et al., 2022, 2206.00364).

    Its Table 1 writes λ(σ) = (σ² + sigma_data²)/(σ sigma_data)², with σ² = 1/SNR.
    """

    space = "x0"

    class Options(PluginOptions):
        """The options of EDM's weighting."""

        sigma_data: float = Field(0.5, gt=0, description="standard deviation of the data")

    options: Options

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_x0 = SNR + 1/sigma_data²."""
        return snr + self.options.sigma_data**-2
