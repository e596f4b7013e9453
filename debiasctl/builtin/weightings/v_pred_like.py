"""sd-scripts' addition of a v-prediction's loss."""

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, Weighting


class VPredLike(Weighting):
    """1 + k (SNR + 1)/SNR on the error of eps: kohya's sd-scripts for --v_pred_like_loss k, which is for eps alone.

    It is the sum of `constant` and k times `constant-v`: the loss of eps, and k times the loss of the v that it
    implies. As in sd-scripts the SNR of the second is bounded by max_snr, which changes the weight by less than
    k/max_snr. k=0.5 is what its users' interface recommends.
    """

    space = "eps"

    class Options(PluginOptions):
        """The options of the added loss."""

        k: float = Field(0.5, ge=0, description="factor of the loss of v; 0 is the constant weighting")
        max_snr: float = Field(1000.0, gt=0, description="SNR above which the factor of k stops falling")

    options: Options

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = 1 + k (min(SNR, max_snr) + 1)/min(SNR, max_snr)."""
        return 1 + self.options.k * (1 + 1 / snr.clamp(max=self.options.max_snr))
