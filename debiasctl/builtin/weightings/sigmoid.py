"""The sigmoid weighting."""

import copy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import DebiasctlError, PluginOptions, Weighting, WeightingContext
from debiasctl.builtin.weightings._curves import at_snr
from debiasctl.diffusion import falling_slope, log_of_table


class SigmoidELBO(Weighting):
    """sigmoid(bias - log SNR) of the ELBO (Kingma and Gao, 2023, arXiv 2303.00848; Hoogeboom et al., 2024, 2410.19324).

    The papers weight the ELBO, an integral of the error of eps over λ = log SNR. If training draws t uniformly, this is
    sigmoid(bias - λ) (-dλ/dt) on eps with time t/T, the same objective for every schedule (measure=log-snr). measure=t
    leaves out -dλ/dt: on eps at each t, sigmoid(bias - λ) = gamma/(SNR + gamma) with gamma = e^bias, which is
    soft-min-snr. The best bias depends on the resolution of the images.
    """

    space = "eps"

    class Options(PluginOptions):
        """The options of the sigmoid weighting."""

        bias: float = Field(2.0, description="log SNR at which the sigmoid is 1/2; the best depends on the resolution")
        measure: Literal["log-snr", "t"] = Field(
            "log-snr", description="the variable over which the sigmoid is a weight: log SNR (as published), or t"
        )

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._schedule: tuple[Tensor, Tensor] | None = None  # its SNRs and -dλ/d(t/T) there, each float64 [T]

    def at(self, context: WeightingContext) -> "SigmoidELBO":
        """Return the weighting for a schedule; with measure=t this is the weighting itself."""
        if self.options.measure == "t":
            return self
        snr = context.snr
        settled = copy.copy(self)
        settled._schedule = snr, falling_slope(log_of_table(snr)) * len(snr)
        return settled

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = sigmoid(bias - λ) (-dλ/dt), or w_eps = sigmoid(bias - λ).

        Raises:
            DebiasctlError: if measure=log-snr and the schedule is not known.
        """
        weight = torch.sigmoid(self.options.bias - snr.log())
        if self.options.measure == "t":
            return weight
        if self._schedule is None:
            raise DebiasctlError(
                "weighting sigmoid with measure=log-snr depends on the schedule, through -d log SNR/dt. "
                "Call at(context) first to set it, or use measure=t"
            )
        levels, slope = self._schedule
        return weight * at_snr(snr, levels=levels, values=slope)
