"""What a plugin author imports: the options base class and the Protocol of each plugin kind.

A plugin is an entry point in the group `debiasctl.<kind>` to a class with a docstring (first line: what it is, and
the paper), an inner `class Options(PluginOptions)`, an `__init__(self, options)` and the methods of its Protocol.
Tensors in protocols are torch tensors; this module itself does not import torch.
"""

from debiasctl.api.backbones import Backbone, ImageShape
from debiasctl.api.datasets import ArraySplit, DataLocation, Dataset, DatasetInfo, LoadedDataset, Split
from debiasctl.api.extensions import Extension, StepContext
from debiasctl.api.features import Features, PreparedFeatures
from debiasctl.api.options import PluginOptions, Prediction, Space
from debiasctl.api.samplers import Denoiser, Estimate, Sampler
from debiasctl.api.schedules import Schedule, ScheduleOptions
from debiasctl.api.timesteps import TimestepContext, TimestepDistribution
from debiasctl.api.weightings import LearnedWeighting, Weighting, WeightingContext

__all__ = [
    "ArraySplit",
    "Backbone",
    "DataLocation",
    "Dataset",
    "DatasetInfo",
    "Denoiser",
    "Estimate",
    "Extension",
    "Features",
    "ImageShape",
    "LearnedWeighting",
    "LoadedDataset",
    "PluginOptions",
    "Prediction",
    "PreparedFeatures",
    "Sampler",
    "Schedule",
    "ScheduleOptions",
    "Space",
    "Split",
    "StepContext",
    "TimestepContext",
    "TimestepDistribution",
    "Weighting",
    "WeightingContext",
]
