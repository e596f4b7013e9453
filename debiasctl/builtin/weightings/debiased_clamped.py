"""The debiased weighting as sd-scripts trains with it."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, Space, Weighting


class DebiasedClamped(Weighting):
    """What kohya's sd-scripts does for --debiased_estimation_loss, so that its trainings can be reproduced.

    Its two forms are two different weightings. form=eps is 1/√min(SNR, max_snr) on eps: debiased, with a floor
    under the weight. form=v, which sd-scripts takes for v-prediction, is 1/(min(SNR, max_snr) + 1) on v: up to
    max_snr that is inverse-snr, and not debiased, whose weight on v is √SNR/(SNR + 1).
    """

    class Options(PluginOptions):
        """Options of sd-scripts' weighting."""

        form: Literal["eps", "v"] = Field("eps", description="what sd-scripts was told that the network predicts")
        max_snr: float = Field(1000.0, gt=0, description="SNR above which the weight stops falling")

    options: Options

    @property
    def space(self) -> Space:
        """As sd-scripts was told."""
        return self.options.form

    def __call__(self, snr: Tensor) -> Tensor:
        """w_eps = 1/√min(SNR, max_snr), or w_v = 1/(min(SNR, max_snr) + 1)."""
        clamped = snr.clamp(max=self.options.max_snr)
        return clamped.rsqrt() if self.options.form == "eps" else 1 / (clamped + 1)
