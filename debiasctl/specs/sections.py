"""The sections of a run spec: all settings that determine what a run trains, stored with the run."""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from debiasctl.api import ImageShape, Prediction
from debiasctl.registry.choices import Plugin, PluginChoice
from debiasctl.specs.recorded import ContentSection, ImportedSection, LatentsSection, ProvenanceSection
from debiasctl.specs.section import Section, without_null

SCHEMA_VERSION = 4
NO_IMAGES = "no-images"  # the data set that stands for images that are not there


class DataSection(Section):
    """The data that the run trains on."""

    dataset: Plugin = Field(description="data set, as name or name:key=value,...")
    horizontal_flip: bool = Field(False, description="mirror each training image with probability 1/2")
    autoencoder: Plugin | None = Field(
        None, description="train on latents of the images, made by this autoencoder; null: on the images"
    )

    @model_serializer(mode="wrap")
    def _without_null(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_null(dump(self), "autoencoder")


class ModelSection(Section):
    """The network and its prediction type."""

    backbone: Plugin = Field("unet", validate_default=True, description="network, as name or name:key=value,...")
    prediction: Prediction = Field("eps", description="what the network predicts: eps, x0, v, edm or flow (eps - x0)")
    sigma_data: float = Field(0.5, gt=0, description="standard deviation of the data, for edm-prediction")
    learned_variance: bool = Field(False, description="predict the variance of the reverse steps too (2102.09672)")
    conditional: bool | None = Field(None, description="give the network class labels (default: where there are any)")
    label_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of training images shown without their class, for guidance (2207.12598)"
    )


class DiffusionSection(Section):
    """The noise process."""

    schedule: Plugin = Field("linear", validate_default=True, description="noise schedule")


class LossSection(Section):
    """The loss that training minimises."""

    weighting: Plugin = Field("debiased", validate_default=True, description="loss weighting")
    normalize: Literal["mean", "none"] = Field(
        "mean", description="mean: scale the effective weight to mean 1; none: as published"
    )
    timesteps: Plugin = Field("uniform", validate_default=True, description="how t is drawn")
    metric: Literal["mse", "huber", "smooth-l1"] = Field(
        "mse",
        description="error that the weight multiplies: mse: squared; huber: 2c(√(d² + c²) - c), about d² for small and "
        "2c|d| for large d (another objective); smooth-l1: the same divided by c",
    )
    huber_c: float = Field(0.1, ge=1e-6, le=1e6, description="c of a Huber loss, in the unit that the network predicts")
    huber_schedule: Literal["constant", "exponential", "snr"] = Field(
        "snr",
        description="c of a Huber loss at each noise level: constant: huber_c; exponential, snr: falling with noise "
        "from 1 to huber_c, as huber_c^(t/T), or (1 - huber_c)/(1 + sigma/alpha)² + huber_c",
    )
    variance_weight: float = Field(
        1e-3,
        ge=0,
        description="weight of the variational bound that is added to the loss, for a learned variance",
    )


class OptimizerSection(Section):
    """AdamW and its learning rate."""

    lr: float = Field(1e-4, gt=0, description="learning rate, after warm-up")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="AdamW's betas"
    )
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decoupled weight decay")
    warmup_steps: int = Field(0, ge=0, description="steps of linear warm-up")
    decay: Literal["none", "cosine", "linear"] = Field("none", description="decay of lr to 0 at the last step")
    clip_grad_norm: float | None = Field(None, gt=0, description="clip the gradient to this norm; null: no clipping")


class DecayEMA(Section):
    """A moving average of the weights with a fixed decay per step."""

    kind: Literal["decay"] = Field("decay", description="a fixed decay per step")
    decay: float = Field(0.9999, ge=0, lt=1, description="weight of the old average at each step")
    warmup: bool = Field(True, description="start with a short average: decay at step k at most (1 + k)/(10 + k)")


class HalfLifeEMA(Section):
    """A moving average of the weights whose half-life is counted in images (2206.00364)."""

    kind: Literal["half-life"] = Field("half-life", description="the half-life is counted in images (2206.00364)")
    half_life_images: int = Field(500_000, ge=1, description="images until a weight counts half")
    rampup_ratio: float | None = Field(
        0.05, gt=0, description="limit on the half-life as a share of the images seen so far; null: no ramp-up"
    )


class PowerEMA(Section):
    """Moving averages of the weights with lengths proportional to the training so far (2312.02696)."""

    kind: Literal["power"] = Field(
        "power",
        description="lengths proportional to the training so far, with snapshots for reconstructing any other length "
        "(2312.02696)",
    )
    lengths: tuple[Annotated[float, Field(ge=0.001, le=0.28)], ...] = Field(
        (0.05, 0.10),
        min_length=1,
        description="standard deviations of the averages' profiles, relative to the training time; the first is the "
        "one measured in training and the one that 'ema' means elsewhere",
    )
    snapshot_every: int | None = Field(
        None, ge=1, description="steps between stored snapshots of all lengths; null: at checkpoints"
    )

    @model_validator(mode="after")
    def _can_be_kept_apart(self) -> Self:
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError(f"ema.lengths {list(self.lengths)} names a length twice")
        if any(round(length, 6) != length for length in self.lengths):
            raise ValueError("ema.lengths: give at most 6 decimals")
        return self


EMASection = Annotated[DecayEMA | HalfLifeEMA | PowerEMA, Field(discriminator="kind")]


class InitFromSection(Section):
    """Another run's weights, from which this one starts."""

    run: str = Field(description="name of the other run")
    step: int = Field(ge=0, description="step of its checkpoint")
    weights: str = Field(description="ema, ema:LENGTH or raw")
    sha256: str = Field(description="SHA-256 of the weights file")


class TrainingSection(Section):
    """The budget of the training, and how often it logs, measures and writes checkpoints."""

    steps: int = Field(100_000, ge=1, description="optimizer steps")
    batch_size: int = Field(128, ge=1, description="images per step, over all processes")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of all randomness")
    log_every: int = Field(50, ge=1, description="steps between lines of metrics")
    heldout_every: int | None = Field(
        None, ge=1, description="steps between held-out measurements; null: at checkpoints"
    )
    heldout_images: int = Field(256, ge=1, description="largest number of held-out images measured")
    checkpoint_every: int = Field(1000, ge=1, description="steps between checkpoints")
    keep_last: int = Field(2, ge=1, description="number of newest checkpoints kept")
    keep_steps: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="steps whose checkpoints are made and kept"
    )
    init_from: InitFromSection | None = Field(None, description="the weights to start from; null: random ones")

    @model_validator(mode="after")
    def _kept_steps_are_reached(self) -> Self:
        late = [step for step in self.keep_steps if step > self.steps]
        if late:
            raise ValueError(f"keep_steps {late[0]} is never reached in {self.steps} steps")
        return self


class ComputeSection(Section):
    """How the training is computed: settings that change its numbers, even if only by rounding."""

    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16", "fp64"] = Field(
        "auto", description="precision of the forward and backward pass; auto: bf16 on a GPU that has it, else fp32"
    )
    accumulation: int = Field(1, ge=1, description="number of parts in which a process computes its batch")
    compile: bool | None = Field(None, description="torch.compile; null: on a GPU, for runs of 5,000 steps or more")
    channels_last: bool | None = Field(None, description="memory layout of convolutions; null: the network's own")
    sharding: Literal["none", "fsdp"] = Field(
        "none", description="none: each process holds all weights (DDP); fsdp: shard them over processes"
    )
    deterministic: bool = Field(
        False, description="on a GPU, use only kernels that give the same bits every time, as a CPU's always do"
    )


class MonitorSection(Section):
    """Samples drawn and measured during training with the averaged weights, without influence on the training."""

    every: int = Field(ge=1, description="training images between evaluations; without it there are none")
    num: int = Field(256, ge=2, le=1_000_000, description="images drawn for the metrics")
    grid: int = Field(
        16, ge=0, le=10_000, description="number of these images in the grid (at most all), always from the same noise"
    )
    sampler: Plugin = Field("ddim", validate_default=True, description="sampler")
    steps: int = Field(20, ge=1, le=1_000_000, description="sampling steps")
    features: Plugin | None = Field(None, description="feature extractor (default: as evaluate chooses)")


# the settings that are known of a model from elsewhere
_OF_MODELS = ("model.", "diffusion.", "content.", "imported.", "provenance.", "data.dataset", "data.autoencoder")


class RunSpec(Section):
    """All settings that determine what a run trains."""

    schema_version: Literal[4] = Field(4, description="version of this schema")
    data: DataSection
    model: ModelSection = ModelSection()
    diffusion: DiffusionSection = DiffusionSection()
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    ema: EMASection = Field(DecayEMA(), description="moving averages of the weights, by their kind")
    training: TrainingSection = TrainingSection()
    compute: ComputeSection = ComputeSection()
    monitor: MonitorSection | None = Field(None, description="evaluations during training; null: none")
    extensions: tuple[Plugin, ...] = Field((), description="extensions of training")
    content: ContentSection | None = Field(None, description="content of the data, filled in when they are read")
    imported: ImportedSection | None = Field(None, description="where a model from elsewhere came from; null: own run")
    provenance: ProvenanceSection = ProvenanceSection()

    @model_validator(mode="after")
    def _trained_on_images(self) -> Self:
        content, named = self.content, self.data.dataset.name
        if content is not None and named != NO_IMAGES and not (content.num_train and content.num_heldout):
            raise ValueError(f"content: num_train and num_heldout of data set '{named}' must be at least 1")
        return self

    @model_serializer(mode="wrap")
    def _without_null(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_null(dump(self), "imported")

    @property
    def known_weighting(self) -> str | None:
        """The weighting as it is typed; None for a model from elsewhere of which nobody has stated it."""
        return str(self.loss.weighting.ref) if self.is_known("loss.weighting") else None

    def is_known(self, setting: str) -> bool:
        """Whether a setting is what the network was trained with: of a model from elsewhere, most are not."""
        if self.imported is None or setting.startswith(_OF_MODELS):
            return True
        return setting.startswith("loss.weighting") and self.imported.weighting_known

    @property
    def latents(self) -> LatentsSection | None:
        """The latents that the network was trained on, if it was; known once the images were encoded."""
        return None if self.content is None else self.content.latents

    @property
    def latents_sha256(self) -> str | None:
        """The SHA-256 of the autoencoder whose latents the network makes; None if it makes images."""
        return None if self.latents is None else self.latents.sha256

    @field_validator("ema", mode="before")
    @classmethod
    def _kind_by_default(cls, ema: Any) -> Any:
        return {"kind": "decay", **ema} if isinstance(ema, Mapping) else ema


def sections_in(annotation: Any) -> list[type[Section]]:
    """List the sections in an annotation such as `Section` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [model for part in get_args(annotation) for model in sections_in(part)]


@cache
def plugin_settings() -> frozenset[str]:
    """The settings that name one plugin, such as data.dataset; not those that only debiasctl writes."""
    return frozenset(
        f"{section}.{name}"
        for section, about in RunSpec.model_fields.items()
        if section != "imported"
        for model in sections_in(about.annotation)
        for name, field in model.model_fields.items()
        if field.annotation is PluginChoice or PluginChoice in map(_unwrapped, get_args(field.annotation))
    )


def _unwrapped(annotation: Any) -> Any:
    """The type in an annotation such as `Annotated[Type, ...]`."""
    return get_args(annotation)[0] if get_args(annotation) else annotation


def embedded_classes(model: ModelSection, num_classes: int) -> int:
    """The number of classes that the network embeds: the data's, plus a null class with label dropout, or none."""
    return num_classes + (model.label_dropout > 0) if model.conditional else 0


def image_shape(model: ModelSection, *, image_size: int, channels: int) -> ImageShape:
    """The input and output shape of the model's network; a learned variance has its own output channels."""
    outputs = 2 * channels if model.learned_variance else channels
    return ImageShape(image_size=image_size, in_channels=channels, out_channels=outputs)
