"""Powers of SNR between the constant and the inverse."""

from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import PluginOptions, Weighting, WeightingContext


class Interpolate(Weighting):
    """SNR^-p on the error of eps: constant at p = 0, debiased (arXiv 2310.08442) at 0.5, inverse-snr at 1.

    With p_end, p changes linearly during training, and stays at p_end from the fraction `until` on.
    """

    space = "eps"

    class Options(PluginOptions):
        """The options of the interpolation."""

        p: float = Field(0.5, ge=0, le=1, description="the power; with p_end, the power when training starts")
        p_end: float | None = Field(None, ge=0, le=1, description="the power that p changes to (default: p stays)")
        until: float = Field(1.0, gt=0, le=1, description="fraction of training at which p_end is reached")

        @model_validator(mode="after")
        def _until_what(self) -> "Interpolate.Options":
            if self.p_end is None and self.until != 1:
                raise ValueError(f"until={self.until} has no effect without p_end. Give p_end too, or leave until out")
            return self

    options: Options

    @property
    def varies(self) -> bool:
        """Whether p changes during training."""
        return self.options.p_end not in (None, self.options.p)

    def at(self, context: WeightingContext) -> "Interpolate":
        """Return the weighting with p at `context.progress`."""
        if self.options.p_end is None:
            return self
        moved = min(context.progress / self.options.until, 1.0)
        return Interpolate(self.Options(p=(1 - moved) * self.options.p + moved * self.options.p_end))

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_eps = SNR^-p, with the p of this weighting."""
        return snr**-self.options.p
