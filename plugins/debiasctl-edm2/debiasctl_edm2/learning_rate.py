"""EDM2's learning-rate schedule."""

import math

from pydantic import Field

from debiasctl.api import Extension, PluginOptions, StepContext


class EDM2LearningRate(Extension):
    """The rate α_ref / √max(t / t_ref, 1) after a linear warm-up (EDM2: Karras et al., 2024, arXiv 2312.02696).

    t counts steps, and α_ref is `optimizer.lr`: 0.012 for size XS, 0.010 S, 0.009 M, 0.008 L, 0.007 XL, 0.0065 XXL.
    Weights of forced magnitude do not grow, so that their relative updates have to be made smaller explicitly. A
    warm-up or decay that `optimizer` states is multiplied with it.
    """

    class Options(PluginOptions):
        """The options of EDM2's learning rate, by default those of the paper for ImageNet at 512 px."""

        reference_steps: int = Field(
            70_000, ge=1, description="t_ref, the steps until the rate decays; 35,000 for ImageNet at 64 px"
        )
        warmup_images: int = Field(10_000_000, ge=0, description="images of linear warm-up from 0")

    options: Options

    def learning_rate(self, rate: float, context: StepContext) -> float:
        """Return the rate for the step in progress; `rate` is α_ref."""
        step = context.step + 1  # as debiasctl's own warm-up counts, so that the first step is not one of rate 0
        warmup = min(1.0, step * context.batch_size / max(1, self.options.warmup_images))
        return rate * warmup / math.sqrt(max(step / self.options.reference_steps, 1.0))
