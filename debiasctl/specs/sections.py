"""Run specs: everything that decides what a run trains, validated by pydantic and stored with the run."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from debiasctl.api import ImageShape, Prediction
from debiasctl.registry.choices import Plugin

SCHEMA_VERSION = 2


class Section(BaseModel):
    """Base of a spec's sections: frozen, unknown keys refused."""

    model_config = ConfigDict(title="section", frozen=True, extra="forbid", allow_inf_nan=False)


class DataSection(Section):
    """What is trained on."""

    dataset: Plugin = Field(description="data set, as name or name:key=value,...")
    horizontal_flip: bool = Field(False, description="mirror each training image with probability 1/2")


class ModelSection(Section):
    """The network and what it predicts."""

    backbone: Plugin = Field("unet", validate_default=True, description="network, as name or name:key=value,...")
    prediction: Prediction = Field("eps", description="what the network predicts: eps, x0, v or edm (preconditioned)")
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
    """What is minimised."""

    weighting: Plugin = Field("debiased", validate_default=True, description="loss weighting")
    normalize: Literal["mean", "none"] = Field(
        "mean", description="mean: effective weight of mean 1; none: as published"
    )
    timesteps: Plugin = Field("uniform", validate_default=True, description="how t is drawn")
    variance_weight: float = Field(
        1e-3,
        ge=0,
        description="weight of the whole variational bound beside the loss, for a learned variance",
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
    clip_grad_norm: float | None = Field(None, gt=0, description="largest norm of the gradient; null: not clipped")


class DecayEMA(Section):
    """A moving average of the weights that keeps a fixed share of itself at each step."""

    kind: Literal["decay"] = Field("decay", description="a fixed share is kept at each step")
    decay: float = Field(0.9999, ge=0, lt=1, description="share of the old average kept at each step")
    warmup: bool = Field(True, description="start with a short average: decay at step k at most (1 + k)/(10 + k)")


class HalfLifeEMA(Section):
    """A moving average of the weights whose half-life is counted in images (2206.00364)."""

    kind: Literal["half-life"] = Field("half-life", description="the half-life is counted in images (2206.00364)")
    half_life_images: int = Field(500_000, ge=1, description="images until a weight counts half")
    rampup_ratio: float | None = Field(
        0.05, gt=0, description="at most this share of the images seen; null: no ramp-up"
    )


class PowerEMA(Section):
    """Moving averages of the weights with lengths in proportion to the training so far (2312.02696)."""

    kind: Literal["power"] = Field(
        "power",
        description="lengths in proportion to the training so far, with snapshots for reconstructing any other length "
        "(2312.02696)",
    )
    lengths: tuple[Annotated[float, Field(ge=0.001, le=0.28)], ...] = Field(
        (0.05, 0.10),
        min_length=1,
        description="standard deviations of the averages in time, over the time of training; the first is what is "
        "measured in training and what 'ema' means elsewhere",
    )
    snapshot_every: int | None = Field(
        None, ge=1, description="steps between the snapshots kept of all lengths; null: at checkpoints"
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

    run: str = Field(description="its name")
    step: int = Field(ge=0, description="of its checkpoint")
    weights: str = Field(description="ema, ema:LENGTH or raw")
    sha256: str = Field(description="of the weights' file")


class TrainingSection(Section):
    """The budget, and what is written along the way."""

    steps: int = Field(100_000, ge=1, description="optimizer steps")
    batch_size: int = Field(128, ge=1, description="images per step, over all processes")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random")
    log_every: int = Field(50, ge=1, description="steps between lines of metrics")
    heldout_every: int | None = Field(
        None, ge=1, description="steps between held-out measurements; null: at checkpoints"
    )
    heldout_images: int = Field(256, ge=1, description="held-out images measured, at most")
    checkpoint_every: int = Field(1000, ge=1, description="steps between checkpoints")
    keep_last: int = Field(2, ge=1, description="newest checkpoints kept")
    keep_steps: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="steps whose checkpoints are made and kept"
    )
    init_from: InitFromSection | None = Field(None, description="the weights to start from; null: new ones")

    @model_validator(mode="after")
    def _kept_steps_are_reached(self) -> Self:
        late = [step for step in self.keep_steps if step > self.steps]
        if late:
            raise ValueError(f"keep_steps {late[0]} is never reached in {self.steps} steps")
        return self


class ComputeSection(Section):
    """How it is computed: whatever changes the numbers, if only in their last digits."""

    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16", "fp64"] = Field(
        "auto", description="of the forward and backward pass; auto: bf16 on a GPU that has it, else fp32"
    )
    accumulation: int = Field(1, ge=1, description="parts that a process computes its share of a batch in")
    compile: bool | None = Field(None, description="torch.compile; null: on a GPU, for runs of 5,000 steps or more")
    channels_last: bool | None = Field(None, description="memory layout of convolutions; null: as the network states")
    sharding: Literal["none", "fsdp"] = Field("none", description="none: each process holds all weights (DDP); fsdp")
    deterministic: bool = Field(
        False, description="on a GPU, kernels that give the same bits every time; a CPU's always do"
    )


class MonitorSection(Section):
    """What is drawn and measured in the course of training, with the averaged weights; it changes nothing of it."""

    every: int = Field(ge=1, description="images seen from one evaluation to the next; without it there are none")
    num: int = Field(256, ge=2, description="images drawn for the metrics")
    grid: int = Field(
        16, ge=0, description="of these, images in the grid (all, where they are fewer): always from the same noise"
    )
    sampler: Plugin = Field("ddim", validate_default=True, description="sampler")
    steps: int = Field(20, ge=1, description="sampling steps")
    features: Plugin | None = Field(None, description="feature extractor (default: as evaluate chooses)")


class ContentSection(Section):
    """What was found in the data; filled in when they are read, and compared when they are read again."""

    image_size: int = Field(description="height and width")
    channels: int = Field(description="1 for grey, 3 for colour")
    classes: tuple[str, ...] = Field(description="class names; empty without labels")
    class_counts: tuple[int, ...] = Field(description="training images of each class")
    num_train: int = Field(description="training images")
    num_heldout: int = Field(description="images never trained on")
    content_hash: str = Field(description="SHA-256 of images and labels")


class ProvenanceSection(Section):
    """What the run was made with; it decides nothing."""

    packages: dict[str, str] = Field(default_factory=dict, description="versions of the packages that compute")
    python: str | None = Field(None, description="Python's version")
    git_commit: str | None = Field(None, description="commit of the working directory, where there is one")


class RunSpec(Section):
    """Everything that decides what a run trains."""

    schema_version: Literal[2] = Field(2, description="version of this schema")
    data: DataSection
    model: ModelSection = ModelSection()
    diffusion: DiffusionSection = DiffusionSection()
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    ema: EMASection = Field(DecayEMA(), description="moving averages of the weights, by their kind")
    training: TrainingSection = TrainingSection()
    compute: ComputeSection = ComputeSection()
    monitor: MonitorSection | None = Field(None, description="evaluations in the course of training; null: none")
    extensions: tuple[Plugin, ...] = Field((), description="extensions of training")
    content: ContentSection | None = Field(None, description="what was found in the data")
    provenance: ProvenanceSection = ProvenanceSection()

    @field_validator("ema", mode="before")
    @classmethod
    def _kind_by_default(cls, ema: Any) -> Any:
        return {"kind": "decay", **ema} if isinstance(ema, Mapping) else ema


def embedded_classes(model: ModelSection, num_classes: int) -> int:
    """How many classes the network knows: the data's, none, or one more that stands for none of them."""
    return num_classes + (model.label_dropout > 0) if model.conditional else 0


def image_shape(model: ModelSection, *, image_size: int, channels: int) -> ImageShape:
    """What the model's network takes and gives; a learned variance has output channels of its own."""
    outputs = 2 * channels if model.learned_variance else channels
    return ImageShape(image_size=image_size, in_channels=channels, out_channels=outputs)
