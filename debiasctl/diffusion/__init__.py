"""The diffusion process, its parameterizations, weights and losses.

Plugins may import the names exported here, as those that come with debiasctl do: `GridSampler`, from which a sampler
gets guidance, clipping and the spacing of its steps, and what its steps compute with; the process of a schedule or of
a denoiser, the prediction types on it, and two ways to make a schedule's table; and the functions and bounds that
weightings share. Importing this package imports torch.
"""

from debiasctl.diffusion.grid import Spacing, level_at_ratio
from debiasctl.diffusion.grid_sampler import GridSampler, Model, Noise, SamplerOptions, Step, beta, posterior_variance
from debiasctl.diffusion.parameterization import Output, Parameterization, convert
from debiasctl.diffusion.process import (
    DiffusionProcess,
    NoiseLevels,
    alphas_cumprod_from_betas,
    alphas_cumprod_from_function,
    process_behind,
    process_of,
)
from debiasctl.diffusion.weighting import SNR_MAX, SNR_MIN, bounded_snr, falling_slope, log_of_table, weight_in

__all__ = [
    "SNR_MAX",
    "SNR_MIN",
    "DiffusionProcess",
    "GridSampler",
    "Model",
    "Noise",
    "NoiseLevels",
    "Output",
    "Parameterization",
    "SamplerOptions",
    "Spacing",
    "Step",
    "alphas_cumprod_from_betas",
    "alphas_cumprod_from_function",
    "beta",
    "bounded_snr",
    "convert",
    "falling_slope",
    "level_at_ratio",
    "log_of_table",
    "posterior_variance",
    "process_behind",
    "process_of",
    "weight_in",
]
