"""The sigmoid weighting."""

import copy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import DebiasctlError, PluginOptions, Weighting, WeightingContext
from debiasctl.builtin.weightings._curves import at_snr
from debiasctl.diffusion.weighting import falling_slope

ZERO_SNR = 1e-19  # at and below this a table's SNR stands for 0, where log SNR has no slope


class SigmoidELBO(Weighting):
    """sigmoid(bias - log SNR) of the ELBO (Kingma and Gao, 2023, arXiv 2303.00848; Hoogeboom et al., 2024, 2410.19324).

    The papers weight the ELBO, an integral of the error of eps over λ = log SNR. Where training draws t uniformly, that
    is sigmoid(bias - λ) (-dλ/dt) on eps with time t/T: one objective, whatever the schedule. This is measure=log-snr.
    measure=t leaves -dλ/dt out: on eps at each t, sigmoid(bias - λ) = gamma/(SNR + gamma) with gamma = e^bias, which is
    soft-min-snr. The bias that a paper uses depends on the resolution of its images.
    """

    space = "eps"

    class Options(PluginOptions):
        """Options of the sigmoid weighting."""

        bias: float = Field(2.0, description="log SNR at which the sigmoid is 1/2; resolutions differ in the best one")
        measure: Literal["log-snr", "t"] = Field(
            "log-snr", description="what the sigmoid weights evenly: the ELBO's log SNR (as published), or t"
        )

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._schedule: tuple[Tensor, Tensor] | None = None  # its SNRs and -dλ/d(t/T) there, each float64 [T]

    def at(self, context: WeightingContext) -> "SigmoidELBO":
        """The weighting on a schedule; itself with measure=t."""
        if self.options.measure == "t":
            return self
        snr = context.snr
        log_snr = torch.where(snr <= ZERO_SNR, -torch.inf, snr.log())
        settled = copy.copy(self)
        settled._schedule = snr, falling_slope(log_snr) * len(snr)
        return settled

    def __call__(self, snr: Tensor) -> Tensor:
        """w_eps = sigmoid(bias - λ) (-dλ/dt), or w_eps = sigmoid(bias - λ).

        Raises:
            DebiasctlError: measure=log-snr, and no schedule is known.
        """
        weight = torch.sigmoid(self.options.bias - snr.log())
        if self.options.measure == "t":
            return weight
        if self._schedule is None:
            raise DebiasctlError(
                "weighting sigmoid with measure=log-snr depends on the schedule, through -d log SNR/dt. "
                "Settle it on one by at(context) first, or use measure=t"
            )
        levels, slope = self._schedule
        return weight * at_snr(snr, levels=levels, values=slope)
