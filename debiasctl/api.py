"""What a plugin author imports: the options base class and the Protocol of each plugin kind.

A plugin is an entry point in the group `debiasctl.<kind>` to a class with a docstring (first line: what it is, and
the paper), an inner `class Options(PluginOptions)`, an `__init__(self, options)` and the methods of its Protocol.
Tensors in protocols are torch tensors; this module itself does not import torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Space = Literal["eps", "x0", "v"]
Prediction = Literal["eps", "x0", "v", "edm"]


class PluginOptions(BaseModel):
    """Base of every plugin's `Options`: frozen, unknown keys refused; describe every field with `Field`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# ---------------------------------------------------------------- datasets


@dataclass(frozen=True)
class DataLocation:
    """Where a data set's files may lie: `data_dir` as the user gave it, `cache_dir` for downloads of our own."""

    data_dir: Path | None
    cache_dir: Path


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before its images are read. Images are square, `classes` is empty without labels."""

    image_size: int
    channels: int
    classes: tuple[str, ...]
    num_train: int
    num_heldout: int


class Split(Protocol):
    """Images that can be read by index, in any order, any number of times.

    Training reads in a thread of its own, one read at a time.
    """

    def __len__(self) -> int: ...

    def images(self, indices: "Tensor") -> "Tensor":
        """uint8 [N, C, H, W] for int64 `indices` [N] in [0, len)."""
        ...

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """int64 [N] in [0, number of classes), or None for a data set without classes."""
        ...


@dataclass(frozen=True)
class ArraySplit:
    """A split held in memory: `array` uint8 [N, C, H, W], `targets` int64 [N] or None."""

    array: "Tensor"
    targets: "Tensor | None" = None

    def __len__(self) -> int:
        return self.array.shape[0]

    def images(self, indices: "Tensor") -> "Tensor":
        """uint8 [N, C, H, W]."""
        return self.array[indices]

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


@dataclass(frozen=True)
class LoadedDataset:
    """A data set ready to read. `heldout` is never trained on; `content_hash` is a SHA-256 of images and labels."""

    info: DatasetInfo
    train: Split
    heldout: Split
    content_hash: str


@runtime_checkable
class Dataset(Protocol):
    """Images to train on."""

    def info(self, location: DataLocation) -> DatasetInfo:
        """Size, channels, classes and counts, as cheaply as can be; downloads nothing."""
        ...

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Run-spec settings (`{"training": {"steps": ...}, ...}`) that make `debiasctl train NAME` a sensible run."""
        ...

    def load(self, location: DataLocation) -> LoadedDataset:
        """Read the images, downloading them where the set allows it; raises DataError where it cannot."""
        ...


# ---------------------------------------------------------------- backbones


@dataclass(frozen=True)
class ImageShape:
    """What a network takes and gives: [N, in_channels, image_size, image_size] to [N, out_channels, ...]."""

    image_size: int
    in_channels: int
    out_channels: int


@runtime_checkable
class Backbone(Protocol):
    """A network F(x, noise_level, labels).

    A class may also have `resolve_options(options, shape) -> Options`, a classmethod that fills in what depends on
    the image's size; the run's spec holds its result.
    """

    def build(self, shape: ImageShape, num_classes: int) -> "nn.Module":
        """A module with `forward(x, noise_level, labels=None)`.

        `x` is float [N, in_channels, H, W]; `noise_level` float [N] (t as 0 … num_timesteps - 1, or c_noise);
        `labels` int64 [N], given when and only when `num_classes` > 0. Raises UsageError where the shape does not fit.
        """
        ...


# ---------------------------------------------------------------- the diffusion process


class ScheduleOptions(PluginOptions):
    """Base of every schedule's options: what any table of noise levels has."""

    num_timesteps: int = Field(1000, ge=2, le=1_000_000, description="T, the number of noise levels")
    zero_terminal_snr: bool = Field(False, description="rescale so that the last SNR is 0 (arXiv 2305.08891)")
    continuous: bool = Field(False, description="train between the levels too, log-SNR interpolated in t")


@runtime_checkable
class Schedule(Protocol):
    """A table of noise levels for t = 0 … num_timesteps - 1. Its `Options` derive from `ScheduleOptions`."""

    def alphas_cumprod(self) -> "Tensor":
        """float64 [num_timesteps], decreasing, in (0, 1); the core does the zero-terminal rescaling."""
        ...


# ---------------------------------------------------------------- what is minimised


@dataclass(frozen=True)
class WeightingContext:
    """Where a weighting is asked for its weights: `snr`, the schedule's table, and `progress` through training.

    `snr` is float64 [T] for t = 0 … T - 1, falling, positive and finite; `progress` is in [0, 1].
    """

    snr: "Tensor"
    progress: float = 0.0


@runtime_checkable
class Weighting(Protocol):
    """A loss weight written as a function of SNR, in the space (`eps`, `x0` or `v`) that its paper uses.

    A class may also have
    - `at(context: WeightingContext) -> Weighting`: the weighting on one schedule at one point of training, where it
      depends on them; and `varies: bool`, true where it changes in the course of training;
    - the methods of `LearnedWeighting`.
    """

    space: Space

    def __call__(self, snr: "Tensor") -> "Tensor":
        """Weights, float64 of `snr`'s shape; `snr` is float64, positive and finite. The core converts spaces."""
        ...


@runtime_checkable
class LearnedWeighting(Protocol):
    """A weighting w with a learned log-variance u(SNR) beside it: the loss is w e^-u error + u (arXiv 2312.02696)."""

    space: Space
    learning_rate: float

    def __call__(self, snr: "Tensor") -> "Tensor":
        """w, as for every weighting; positive."""
        ...

    def build(self) -> "nn.Module":
        """A module whose forward maps log-SNR [N] to u [N], in its weights' dtype; Adam trains it with the network."""
        ...


@dataclass(frozen=True)
class TimestepContext:
    """What a distribution of t may depend on: float64 tables over t = 0 … T - 1.

    `snr` is positive and finite; `slope` is -d log SNR/dt, positive; `weight` is the effective weight on the
    network's output, up to a factor.
    """

    snr: "Tensor"
    slope: "Tensor"
    weight: "Tensor"


@runtime_checkable
class TimestepDistribution(Protocol):
    """How training draws t.

    With `corrected = False` the distribution is part of the objective: density times weight is what is minimised.
    With `corrected = True` it is only a way of drawing: the loss is multiplied by base/q, so that the objective is the
    weighted loss under `base`. A class may also have
    - `base(context) -> Tensor`, float64 [T] with sum 1: that base distribution (without it: uniform);
    - `spread(draws, shared, positions, batch_size) -> Tensor`: other uniform numbers [N] in [0, 1) for the quantile
      function, from independent ones [N], one shared by the whole batch, and the positions [N] in it;
    - `varies: bool`, true where q changes in the course of training; and `observe(t, losses)`, which sees each step's
      int64 t [N] and losses float64 [N] of the global batch (all that is minimised, a learned variance's bound and a
      learned weighting's u included, before the correction), with `state_dict()`, `load_state_dict(state)`.
    """

    corrected: bool

    def probabilities(self, context: TimestepContext) -> "Tensor":
        """q(t), float64 [T], not negative; the core divides it by its sum."""
        ...


# ---------------------------------------------------------------- sampling


@dataclass(frozen=True)
class Estimate:
    """One estimate in its three equivalent forms, each [N, C, H, W]."""

    x0: "Tensor"
    eps: "Tensor"
    v: "Tensor"
    variance_fraction: "Tensor | None" = None  # [N, C, H, W], 0 for beta_tilde to 1 for beta, where it is learned


class Denoiser(Protocol):
    """A trained network with its process and parameterization; counts its forwards in `nfe`."""

    num_timesteps: int
    alphas_cumprod: "Tensor"  # float64 [num_timesteps], on the CPU
    nfe: int
    null_label: int | None  # the class number that stands for none, where the network was trained with it

    def __call__(self, x_t: "Tensor", t: float, labels: "Tensor | None" = None) -> Estimate:
        """The estimate for x_t [N, C, H, W] at timestep `t`, the same for all images.

        `t` may lie between two timesteps: log-SNR is linear between them.
        """
        ...


@runtime_checkable
class Sampler(Protocol):
    """Draws images, x_T to x_0, by `num_steps` steps.

    A class may also have `grid(process, num_steps)`, which raises UsageError for steps that it cannot make.
    """

    def __call__(
        self,
        denoiser: Denoiser,
        x: "Tensor",
        *,
        num_steps: int,
        noise: "Callable[[int], Tensor]",
        labels: "Tensor | None" = None,
        on_step: "Callable[[int, Tensor, Tensor], None] | None" = None,
    ) -> "Tensor":
        """Float [N, C, H, W] in about [-1, 1].

        `noise(k)` is standard normal noise of x's shape for the k-th step, the same whenever it is asked for.
        `on_step(done, x, x0)` is called after each step, with x and the estimate of x0 [N, C, H, W] it was made from.
        """
        ...


# ---------------------------------------------------------------- evaluation


class PreparedFeatures(Protocol):
    """A frozen feature extractor. `identity` is a SHA-256 of all that decides its output; `details` are for people.

    One may also have `any_size: bool`, true where it takes images of any size; `logits(images)`, float64 [N, K] of a
    classifier, for the inception score; and `spatial(images)`, float64 [N, D'] of an earlier layer, for sFID. With
    `parts(images, names)` it gives several of "features", "logits" and "spatial" by name, from one pass.
    """

    identity: str
    dimension: int
    details: Mapping[str, Any]

    def __call__(self, images: "Tensor") -> "Tensor":
        """float64 [N, dimension] for uint8 [N, C, H, W]."""
        ...


@runtime_checkable
class Features(Protocol):
    """Feature extractors for evaluation. `labelled`: needs a data set with classes.

    A class may also have `pretrained: bool`, true where it needs no data set; `any_size: bool`, as the extractor's; and
    `weights_files`, the files that it loads, which `debiasctl doctor` looks at.
    """

    labelled: bool

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> PreparedFeatures:
        """Ready the extractor, from the cache where it is there; raises EvaluationError where it cannot be had."""
        ...


# ---------------------------------------------------------------- extensions of training


@dataclass
class StepContext:
    """What an extension sees: the step in progress (0-based), the network and the optimizer."""

    step: int
    model: "nn.Module"
    optimizer: "torch.optim.Optimizer"


class Extension:
    """Base of an object that is called at fixed points of training; override what is needed."""

    Options: ClassVar[type[PluginOptions]] = PluginOptions

    def __init__(self, options: PluginOptions) -> None:
        self.options = options

    def on_start(self, context: StepContext) -> None:
        """Before the first step of this process, after a resumed checkpoint was loaded."""

    def after_backward(self, context: StepContext) -> None:
        """After the backward pass and gradient clipping, before the optimizer's step."""

    def after_step(self, context: StepContext) -> None:
        """After the optimizer's step, before the EMA's."""

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint: tensors, numbers, strings and containers of them."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the state of a checkpoint."""


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
