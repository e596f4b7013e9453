"""Run specs: everything that decides what a run trains, validated by pydantic and stored with the run."""

import json
import logging
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from debiasctl import registry
from debiasctl.api import DataLocation, DatasetInfo, ImageShape, Prediction
from debiasctl.choices import Plugin, PluginChoice, complete
from debiasctl.errors import DebiasctlError, RunError, SpecError
from debiasctl.refs import parse_ref
from debiasctl.validation import describe_errors

_LOG = logging.getLogger(__name__)
SCHEMA_VERSION = 1
_EMA_KINDS = {
    "decay": ("decay", "warmup"),
    "half-life": ("half_life_images", "rampup_ratio"),
    "power": ("lengths", "snapshot_every"),
}


class Section(BaseModel):
    """Base of a spec's sections: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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


class EMASection(Section):
    """The moving averages of the weights; `kind` decides which of the other settings count."""

    kind: Literal["decay", "half-life", "power"] = Field(
        "decay",
        description="decay: a fixed share is kept; half-life: counted in images (2206.00364); power: lengths in "
        "proportion to the training so far, with snapshots for reconstructing any other length (2312.02696)",
    )
    decay: float = Field(0.9999, ge=0, lt=1, description="decay: share of the old average kept at each step")
    warmup: bool = Field(
        True, description="decay: start with a short average: decay at step k at most (1 + k)/(10 + k)"
    )
    half_life_images: int = Field(500_000, ge=1, description="half-life: images until a weight counts half")
    rampup_ratio: float | None = Field(
        0.05, gt=0, description="half-life: at most this share of the images seen; null: no ramp-up"
    )
    lengths: tuple[Annotated[float, Field(ge=0.001, le=0.28)], ...] = Field(
        (0.05, 0.10),
        min_length=1,
        description="power: standard deviations of the averages in time, over the time of training; the first is "
        "what is measured in training and what 'ema' means elsewhere",
    )
    snapshot_every: int | None = Field(
        None, ge=1, description="power: steps between the snapshots kept of all lengths; null: at checkpoints"
    )

    @model_validator(mode="after")
    def _can_be_kept_apart(self) -> Self:
        if len(set(self.lengths)) < len(self.lengths):
            raise ValueError(f"ema.lengths {list(self.lengths)} names a length twice")
        if any(round(length, 6) != length for length in self.lengths):
            raise ValueError("ema.lengths: give at most 6 decimals")
        return self


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

    every: int | None = Field(None, ge=1, description="images seen from one evaluation to the next; null: none")
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

    schema_version: Literal[1] = Field(1, description="version of this schema")
    data: DataSection
    model: ModelSection = ModelSection()
    diffusion: DiffusionSection = DiffusionSection()
    loss: LossSection = LossSection()
    optimizer: OptimizerSection = OptimizerSection()
    ema: EMASection = EMASection()
    training: TrainingSection = TrainingSection()
    compute: ComputeSection = ComputeSection()
    monitor: MonitorSection = MonitorSection()
    extensions: tuple[Plugin, ...] = Field((), description="extensions of training")
    content: ContentSection | None = Field(None, description="what was found in the data")
    provenance: ProvenanceSection = ProvenanceSection()


def resolve_spec(
    layers: Iterable[Mapping[str, Any]], location: DataLocation, *, file: Mapping[str, Any] | None = None
) -> tuple[RunSpec, DatasetInfo]:
    """One full spec from layers of settings, later over earlier, over a spec file's and the data set's recommendations.

    A setting of the layers has to have an effect. One of the file, which may write every setting out, or of the
    recommendations that has none beside all the others is set to its default; for the file's, one note says so.

    Raises:
        SpecError: no data set is named, or a setting is not valid; plugins raise their own UsageErrors.
    """
    asked: dict[str, Any] = {}
    for layer in layers:
        asked = merge(asked, layer)
    given = merge(file or {}, asked)
    dataset = given.get("data", {}).get("dataset") if isinstance(given.get("data"), Mapping) else None
    if not dataset:
        raise SpecError(
            "no data set is named. Give one: debiasctl train digits, debiasctl train PATH, or data.dataset in a spec\n"
            "See: debiasctl plugins list datasets"
        )
    # the recommendations depend on the data set's own options, so that one is made first
    defaults = validate_spec({"data": {"dataset": dataset}})
    plugin = registry.create("datasets", defaults.data.dataset.ref)
    info: DatasetInfo = plugin.info(location)
    # the defaults stand below as settings, so that a plugin's options can be given without its name
    settings = defaults.model_dump(exclude={"data", "content", "provenance"})
    spec = validate_spec(merge(merge(settings, plugin.recommended(location)), given))
    spec, reset = _with_effects(_resolve_plugins(spec, info), asked)
    unused = [f"{section}.{name}" for section, name in reset if _names(file or {}, section, name)]
    if unused:
        _LOG.info("note: not taken from the spec file, as they do not fit the other settings: %s", ", ".join(unused))
    return spec, info


def validate_spec(raw: Mapping[str, Any]) -> RunSpec:
    """A RunSpec from raw settings.

    Raises:
        SpecError: a key is unknown or a value out of range; the message names it and what is allowed.
    """
    version = raw.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise SpecError(
            f"the spec has schema version {version}; this debiasctl reads up to {SCHEMA_VERSION}. Update debiasctl"
        )
    try:
        return RunSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(f"spec: {describe_errors(error, RunSpec)}") from error


def embedded_classes(model: ModelSection, num_classes: int) -> int:
    """How many classes the network knows: the data's, none, or one more that stands for none of them."""
    return num_classes + (model.label_dropout > 0) if model.conditional else 0


def _resolve_plugins(spec: RunSpec, info: DatasetInfo) -> RunSpec:
    """Fill in every plugin's options and origin, and refuse combinations that cannot be meant."""
    conditional = spec.model.conditional
    if conditional and not info.classes:
        raise SpecError("model.conditional=true needs a data set with classes, and this one has none. Leave it out")
    conditional = bool(info.classes) if conditional is None else conditional
    shape = image_shape(spec.model, image_size=info.image_size, channels=info.channels)
    return spec.model_copy(
        update={
            "data": spec.data.model_copy(update={"dataset": complete("datasets", spec.data.dataset)}),
            "model": spec.model.model_copy(
                update={"backbone": _complete_backbone(spec.model.backbone, shape), "conditional": conditional}
            ),
            "diffusion": spec.diffusion.model_copy(update={"schedule": complete("schedules", spec.diffusion.schedule)}),
            "loss": spec.loss.model_copy(
                update={
                    "weighting": complete("weightings", spec.loss.weighting),
                    "timesteps": complete("timesteps", spec.loss.timesteps),
                }
            ),
            "monitor": _complete_monitor(spec.monitor),
            "extensions": tuple(complete("extensions", choice) for choice in spec.extensions),
        }
    )


def _complete_monitor(monitor: MonitorSection) -> MonitorSection:
    features = monitor.features and complete("features", monitor.features)
    return monitor.model_copy(update={"sampler": complete("samplers", monitor.sampler), "features": features})


def _with_effects(spec: RunSpec, asked: Mapping[str, Any]) -> tuple[RunSpec, list[tuple[str, str]]]:
    """The spec with the default of each setting that has no effect; and which of them, by section, differed from it.

    Raises:
        SpecError: one of those that differ is `asked` for.
    """
    defaults = RunSpec(data=spec.data, monitor=_complete_monitor(MonitorSection()))
    changes: dict[str, dict[str, Any]] = {}
    for section, name, why in _without_effect(spec):
        default = getattr(defaults, section)
        if not _differs(name, getattr(spec, section), default):
            continue
        if _names(asked, section, name):
            raise SpecError(f"{section}.{name} has no effect {why}")
        changes.setdefault(section, {})[name] = getattr(default, name)
    monitor = spec.monitor
    if monitor.every is not None and monitor.grid > monitor.num:
        if _names(asked, "monitor", "grid"):
            raise SpecError(
                f"monitor.grid={monitor.grid} is more than the monitor.num={monitor.num} images that are drawn. "
                "Lower the one or raise the other"
            )
        changes["monitor"] = {"grid": monitor.num}
    sections = {section: getattr(spec, section).model_copy(update=values) for section, values in changes.items()}
    return spec.model_copy(update=sections), [(section, name) for section in changes for name in changes[section]]


def _without_effect(spec: RunSpec) -> Iterator[tuple[str, str, str]]:
    """Section, name and reason of each setting that decides nothing beside the others."""
    model = spec.model
    if model.prediction != "edm":
        yield "model", "sigma_data", f"with model.prediction={model.prediction}; it belongs to model.prediction=edm"
    if not model.conditional:
        reason = "on a model without class labels. Leave it out, or set model.conditional=true"
        yield "model", "label_dropout", reason
    if not model.learned_variance:
        yield "loss", "variance_weight", "without model.learned_variance=true"
    for kind, names in _EMA_KINDS.items():
        if kind != spec.ema.kind:
            for name in names:
                yield "ema", name, f"with ema.kind={spec.ema.kind}; choose ema.kind={kind}, or leave it out"
    if spec.monitor.every is None:
        reason = (
            "without monitor.every, the images from one evaluation to the next. Give that too "
            "(--evaluate-every IMAGES), or leave it out"
        )
        for name in MonitorSection.model_fields:
            yield "monitor", name, reason


def _names(settings: Mapping[str, Any], section: str, name: str) -> bool:
    inner = settings.get(section)
    return isinstance(inner, Mapping) and name in inner


def _differs(name: str, section: Section, other: Section) -> bool:
    value, default = (
        choice.ref if isinstance(choice, PluginChoice) else choice
        for choice in (getattr(section, name), getattr(other, name))
    )
    return bool(value != default)


def image_shape(model: ModelSection, *, image_size: int, channels: int) -> ImageShape:
    """What the model's network takes and gives; a learned variance has output channels of its own."""
    outputs = 2 * channels if model.learned_variance else channels
    return ImageShape(image_size=image_size, in_channels=channels, out_channels=outputs)


def _complete_backbone(choice: PluginChoice, shape: ImageShape) -> PluginChoice:
    resolved = registry.resolve("backbones", choice.ref)
    resolve_options = getattr(resolved.plugin, "resolve_options", None)
    completed = complete("backbones", choice)
    if resolve_options is None:
        return completed
    return completed.model_copy(update={"options": resolve_options(resolved.options, shape).model_dump(mode="json")})


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, section by section; a plugin with a name replaces the one below, options and all.

    Raises:
        SpecError: the one below is options alone, set for a plugin that is not named: they would be lost.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and "name" not in value:
            if isinstance(below, str):
                ref = parse_ref(below)
                below = {"name": ref.name, "options": dict(ref.options)}
            merged[key] = merge(below, value) if isinstance(below, Mapping) else dict(value)
        else:
            if isinstance(below, Mapping) and set(below) == {"options"}:
                name = value if isinstance(value, str) else value.get("name") if isinstance(value, Mapping) else value
                raise SpecError(
                    f"spec: {key}.options are set, and then {key} is given as '{name}', which would replace them. "
                    f"Give both at once, for example {key}=name:option=value"
                )
            merged[key] = value
    return merged


def parse_setting(text: str) -> dict[str, Any]:
    """`section.field=value` as nested settings; bracketed values are JSON, `null` is None, all else is text.

    Raises:
        SpecError: there is no `=`, or the key has an empty part.
    """
    from debiasctl.refs import parse_value

    path, equals, value = text.partition("=")
    keys = [part.strip() for part in path.split(".")]
    if not equals or not all(keys) or len(keys) < 2:
        raise SpecError(f"--set '{text}': write section.field=value, for example --set optimizer.lr=0.0002")
    stripped = value.strip()
    # a reference's quotes and brackets belong to the reference
    parsed: Any = parse_value(stripped, text) if stripped[:1] in "[{" or stripped == "null" else stripped
    for key in reversed(keys):
        parsed = {key: parsed}
    return dict(parsed)


def read_spec_file(path: Path) -> dict[str, Any]:
    """The settings in a JSON, YAML or TOML file, told apart by its ending.

    Raises:
        SpecError: the file is not there, cannot be read, or does not hold a mapping.
    """
    readers: dict[str, Callable[[str], Any]] = {
        ".json": json.loads,
        ".yaml": _read_yaml,
        ".yml": _read_yaml,
        ".toml": tomllib.loads,
    }
    if path.suffix.lower() not in readers:
        raise SpecError(f"spec file {path}: the ending must be one of {', '.join(readers)}")
    try:
        content = readers[path.suffix.lower()](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"spec file {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # JSON's, TOML's and decoding errors are ValueErrors
        raise SpecError(f"spec file {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SpecError(f"spec file {path} must hold sections such as data, model and training")
    return content


def _read_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def load_stored_spec(text: str, source: str) -> RunSpec:
    """The spec that a run stored; `source` names the file in messages.

    Raises:
        RunError: it is damaged, or was written by a newer version.
    """
    try:
        raw = json.loads(text)
        if not isinstance(raw, dict):
            raise SpecError("it holds no sections")
        return validate_spec(raw)
    except (ValueError, RecursionError, DebiasctlError) as error:
        raise RunError(f"{source} cannot be used: {error}") from error
