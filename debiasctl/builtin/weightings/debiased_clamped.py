"""The debiased weighting as sd-scripts trains with it."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, Space, Weighting


class DebiasedClamped(Weighting):
    """The weighting of kohya's sd-scripts for --debiased_estimation_loss, with which its trainings can be reproduced.

    Its two forms are different weightings. form=eps is 1/√min(SNR, max_snr) on eps: debiased, with a lower bound on the
    weight. form=v, which sd-scripts uses for v-prediction, is 1/(min(SNR, max_snr) + 1) on v: up to max_snr this is
    inverse-snr and not debiased, whose weight on v is √SNR/(SNR + 1).
    """

    class Options(PluginOptions):
        """The options of sd-scripts' weighting."""

        form: Literal["eps", "v"] = Field("eps", description="the network's prediction as set in sd-scripts")
        max_snr: float = Field(1000.0, gt=0, description="SNR above which the weight stops falling")

    options: Options

    @property
    def space(self) -> Space:
        """The space that the form is written for."""
        return self.options.form

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = 1/√min(SNR, max_snr), or w_v = 1/(min(SNR, max_snr) + 1)."""
        clamped = snr.clamp(max=self.options.max_snr)
        return clamped.rsqrt() if self.options.form == "eps" else 1 / (clamped + 1)
