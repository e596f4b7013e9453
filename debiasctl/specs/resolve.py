"""From layers of settings to one full spec."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from debiasctl import registry
from debiasctl.api import Backbone, DataLocation, DatasetInfo, ImageShape
from debiasctl.errors import DebiasctlError, RunError, SpecError
from debiasctl.registry.choices import PluginChoice, complete
from debiasctl.registry.messages import describe_errors
from debiasctl.specs.files import merge
from debiasctl.specs.sections import _EMA_KINDS, SCHEMA_VERSION, MonitorSection, RunSpec, Section, image_shape

_LOG = logging.getLogger(__name__)


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


def _complete_backbone(choice: PluginChoice, shape: ImageShape) -> PluginChoice:
    resolved = registry.resolve("backbones", choice.ref)
    assert issubclass(resolved.plugin, Backbone), "the registry has looked"
    options = resolved.plugin.resolve_options(resolved.options, shape)
    return complete("backbones", choice).model_copy(update={"options": options.model_dump(mode="json")})


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
