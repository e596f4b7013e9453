"""The public interface for plugin authors: the base class of each kind, and the types of its arguments and results.

A plugin is an entry point in the group `debiasctl.<kind>` to a subclass of the kind's base. The subclass has a
docstring (first line: what it is, and the paper), implements the base's abstract methods, has an inner
`class Options(PluginOptions)` if it has options, and may override the base's other methods, which all have defaults.
Tensors are torch tensors; this module itself does not import torch.
"""

from debiasctl.api.autoencoders import Autoencoder, LatentScale, LatentShape, PreparedAutoencoder
from debiasctl.api.backbones import Backbone, ImageShape
from debiasctl.api.checks import ImageProblem
from debiasctl.api.data import hash_contents, hash_splits, spread_indices
from debiasctl.api.datasets import (
    ArraySplit,
    DataLocation,
    Dataset,
    DatasetInfo,
    FilesIdentity,
    LoadedDataset,
    Split,
)
from debiasctl.api.densities import GaussianMixture
from debiasctl.api.engines import Engine, Job, JobEvent, Workplace, perform
from debiasctl.api.errors import (
    DataError,
    DebiasctlError,
    EvaluationError,
    Hint,
    ModelError,
    UnsuitableDataError,
    UsageError,
)
from debiasctl.api.extensions import Extension, StepContext
from debiasctl.api.features import Features, MetricNames, Part, PreparedFeatures, PublishedStatistics
from debiasctl.api.files import (
    atomic_file,
    atomic_folder,
    content_key,
    made_once,
    sha256_file,
    write_bytes,
    write_json,
    writing,
)
from debiasctl.api.machine import num_cores
from debiasctl.api.models import ExternalModel, ModelSource
from debiasctl.api.nested import NestedPlugin, NestedSchedule, NestedTimesteps, NestedWeighting, StoredPlugin
from debiasctl.api.options import PluginOptions, Prediction, Space
from debiasctl.api.pace import Pace
from debiasctl.api.plugin import Plugin
from debiasctl.api.samplers import Denoiser, Estimate, Level, Process, Sampler
from debiasctl.api.schedules import Schedule, ScheduleOptions
from debiasctl.api.state_dicts import read_state_dict, state_dict_differences
from debiasctl.api.timesteps import TimestepContext, TimestepDistribution
from debiasctl.api.weightings import Learned, Weighting, WeightingContext
from debiasctl.api.weights_file import WeightsFile

__all__ = [
    "ArraySplit",
    "Autoencoder",
    "Backbone",
    "DataError",
    "DataLocation",
    "Dataset",
    "DatasetInfo",
    "DebiasctlError",
    "Denoiser",
    "Engine",
    "Estimate",
    "EvaluationError",
    "Extension",
    "ExternalModel",
    "Features",
    "FilesIdentity",
    "GaussianMixture",
    "Hint",
    "ImageProblem",
    "ImageShape",
    "Job",
    "JobEvent",
    "LatentScale",
    "LatentShape",
    "Learned",
    "Level",
    "LoadedDataset",
    "MetricNames",
    "ModelError",
    "ModelSource",
    "NestedPlugin",
    "NestedSchedule",
    "NestedTimesteps",
    "NestedWeighting",
    "Pace",
    "Part",
    "Plugin",
    "PluginOptions",
    "Prediction",
    "PreparedAutoencoder",
    "PreparedFeatures",
    "Process",
    "PublishedStatistics",
    "Sampler",
    "Schedule",
    "ScheduleOptions",
    "Space",
    "Split",
    "StepContext",
    "StoredPlugin",
    "TimestepContext",
    "TimestepDistribution",
    "UnsuitableDataError",
    "UsageError",
    "Weighting",
    "WeightingContext",
    "WeightsFile",
    "Workplace",
    "atomic_file",
    "atomic_folder",
    "content_key",
    "hash_contents",
    "hash_splits",
    "made_once",
    "num_cores",
    "perform",
    "read_state_dict",
    "sha256_file",
    "spread_indices",
    "state_dict_differences",
    "write_bytes",
    "write_json",
    "writing",
]
