"""The learned uncertainty weighting."""

import copy
import math

import torch
from pydantic import Field
from torch import Tensor, nn

from debiasctl.api import (
    DebiasctlError,
    Learned,
    NestedWeighting,
    PluginOptions,
    Space,
    UsageError,
    Weighting,
    WeightingContext,
)
from debiasctl.diffusion import SNR_MAX, SNR_MIN


class LogVariance(nn.Module):
    """The network u(c_noise): Fourier features and a linear layer without bias, initially 0 (EDM2, 2312.02696, Eq. 21).

    Frequencies ~ N(0, 1) and phases ~ U(0, 1) are drawn from torch's global generator. The sum over the features is
    divided by √channels, as in EDM2's layers, so that the learning rate does not depend on their number.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(channels))
        self.register_buffer("phases", torch.rand(channels))
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, log_snr: Tensor) -> Tensor:
        """Compute u [N] in the weights' dtype for log-SNR [N], which may be -inf; c_noise = ln(σ)/4 = -log SNR/8."""
        c_noise = -log_snr.to(self.weight.dtype).clamp(math.log(SNR_MIN), math.log(SNR_MAX)) / 8
        features = math.sqrt(2) * torch.cos(2 * math.pi * (c_noise[:, None] * self.frequencies + self.phases))
        # a product and a sum instead of a matrix product, which autocast would compute in half precision
        return (features * self.weight).sum(dim=1) / math.sqrt(len(self.weight))


class Uncertainty(Weighting):
    """A weighting over a learned variance of its loss, w e^-u error + u (EDM2, arXiv 2312.02696, Eq. 21).

    u(SNR) is trained together with the network and learns the log of the weighted error at each SNR, so that all SNRs
    eventually contribute equally to the loss. As long as u is 0, as at the start, training is that of the base. It
    differs from EDM2's in this: EDM2's last layer of u starts at random and its weight's norm is forced at every step;
    here the weight starts at 0 and is free.
    """

    class Options(PluginOptions):
        """The options of the uncertainty weighting."""

        base: NestedWeighting = Field("edm", validate_default=True, description="the weighting w; EDM2 uses EDM's")
        channels: int = Field(128, ge=1, description="number of Fourier features of u")
        learning_rate: float = Field(1e-2, gt=0, description="learning rate of Adam for u")

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._base = options.base.create()
        if self._base.is_learned:
            raise UsageError(
                f"weighting uncertainty: its base '{options.base.name}' is learned itself. Choose one that is not"
            )

    @property
    def space(self) -> Space:
        """The base's space."""
        return self._base.space

    @property
    def varies(self) -> bool:
        """Whether the base changes during training."""
        return self._base.varies

    def at(self, context: WeightingContext) -> "Uncertainty":
        """Return this weighting over the base at this point of training."""
        settled = copy.copy(self)
        settled._base = self._base.at(context)
        return settled

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w, the base's weight.

        Raises:
            DebiasctlError: if it is 0 somewhere, where u would decrease without bound.
        """
        weight = self._base(snr)
        if bool((weight == 0).any()):
            raise DebiasctlError(
                f"weighting uncertainty: its base '{self.options.base.name}' is 0 at SNR {snr[weight == 0][0]:.4g}, "
                "where a learned variance would decrease without bound. Choose a base that is positive everywhere"
            )
        return weight

    def learned(self) -> Learned:
        """Build u, which maps log-SNR, float32 [N], to u, float32 [N]."""
        return Learned(LogVariance(self.options.channels), self.options.learning_rate)
