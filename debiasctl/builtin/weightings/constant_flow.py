"""The constant weighting on rectified flow's velocity."""

from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, Weighting
from debiasctl.builtin.weightings._share import share_of_noise


class ConstantFlow(Weighting):
    """Weight 1 on the error of rectified flow's eps - x0, which flow models train with (SD3, arXiv 2403.03206).

    On x0 it is (1 + √SNR)² = 1/s²; with x0-prediction it is the objective of JiT (arXiv 2511.13720). JiT's code divides
    by no less than 0.05 in place of s, which is min_s=0.05, and draws t by logit-normal with mean 0.8 and std 0.8 (its
    own time is the share of the image, so that its mean is -0.8).
    """

    space = "flow"

    class Options(PluginOptions):
        """The options of the constant weighting on eps - x0."""

        min_s: float = Field(0.0, ge=0, lt=1, description="share of noise below which the weight on x0 stops growing")

    options: Options

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_flow = 1, or (s/min_s)² where s is below min_s."""
        s = share_of_noise(snr)
        return (s / s.clamp(min=self.options.min_s)) ** 2
