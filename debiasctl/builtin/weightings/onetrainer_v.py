"""OneTrainer's weightings of v-prediction."""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import PluginOptions, Weighting


class OneTrainerV(Weighting):
    """The weightings of OneTrainer for v-prediction that are no conversions, with which its trainings can be repeated.

    For eps-prediction it has debiased-clamped and p2. For v it adds 1 to the SNR and puts the sum into the formula for
    eps: scheme=debiased is (min(SNR, max_snr) + 1)^-1/2 on v, where debiased is √SNR/(SNR + 1) and sd-scripts has
    1/(min(SNR, 1000) + 1), debiased-clamped:form=v. scheme=p2 is (2 + SNR)^-gamma on v, where p2 is
    SNR (1 + SNR)^-gamma/(SNR + 1).
    """

    space = "v"

    class Options(PluginOptions):
        """The options of OneTrainer's weightings of v."""

        scheme: Literal["debiased", "p2"] = Field(
            "debiased", description="the loss weight function chosen in OneTrainer"
        )
        max_snr: float = Field(1000.0, gt=0, description="scheme=debiased: SNR above which the weight stops falling")
        gamma: float = Field(1.0, ge=0, description="scheme=p2: its strength in OneTrainer")

        @model_validator(mode="after")
        def _has_an_effect(self) -> "OneTrainerV.Options":
            other, name = ("p2", "gamma") if self.scheme == "debiased" else ("debiased", "max_snr")
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} has no effect with scheme={self.scheme}; choose scheme={other}, or leave it out"
                )
            return self

    options: Options

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_v = (min(SNR, max_snr) + 1)^-1/2, or w_v = (2 + SNR)^-gamma."""
        if self.options.scheme == "debiased":
            return (snr.clamp(max=self.options.max_snr) + 1).rsqrt()
        return (2 + snr) ** -self.options.gamma
