"""Resolving layers of settings into a full spec."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from debiasctl import registry
from debiasctl.api import DataLocation, Dataset, DatasetInfo
from debiasctl.boundary import ContractError, origin_of, plugin_call
from debiasctl.errors import DebiasctlError, RunError, SpecError, UsageError
from debiasctl.reading.documents import parse_json
from debiasctl.registry.choices import complete
from debiasctl.registry.messages import describe_errors
from debiasctl.specs.effects import NO_MONITOR, Ineffective, drop_absent, reset_ineffective
from debiasctl.specs.files import extension_list, merge
from debiasctl.specs.latents import latent_settings
from debiasctl.specs.migrate import migrate, migrate_file
from debiasctl.specs.plugins import complete_plugins
from debiasctl.specs.sections import RunSpec

_LOG = logging.getLogger(__name__)
_OWN_SECTIONS = ("content", "imported", "provenance", "schema_version")  # those that debiasctl writes itself


def resolve_spec(
    layers: Iterable[Mapping[str, Any]],
    location: DataLocation,
    *,
    file: Mapping[str, Any] | None = None,
    advised: Mapping[str, Any] | None = None,
) -> tuple[RunSpec, DatasetInfo]:
    """Resolve layers of settings (later ones win) over a spec file and the data set's recommendations into a full spec.

    Settings `advised`, such as a trial's, come before the data set's recommendations.

    A setting in the layers must have an effect. A setting without effect in the file (which may list every setting) or
    in the recommendations is reset to its default; for the file, a note lists them.

    Raises:
        SpecError: if no data set is named, or a setting is not valid; plugins raise their own UsageErrors.
    """
    file = None if file is None else migrate_file(file)
    if file is not None:
        file.pop("imported", None)  # the settings of a model from elsewhere may be those of a training
    asked: dict[str, Any] = {}
    for layer in layers:
        asked = merge(asked, layer)
    if "imported" in asked:
        raise SpecError("imported is written by debiasctl, for models from elsewhere: debiasctl runs add-model --help")
    given = merge(file or {}, asked)
    if "extensions" in given:
        given["extensions"] = extension_list(given["extensions"])
    dataset = given.get("data", {}).get("dataset") if isinstance(given.get("data"), Mapping) else None
    if not dataset or (isinstance(dataset, Mapping) and not dataset.get("name")):
        raise SpecError(
            "no data set is named. Give one: debiasctl train digits, debiasctl train PATH, or data.dataset in a "
            "spec\n"
            "See: debiasctl plugins list datasets"
        )
    # the recommendations depend on the data set's own options, so the data set is made first
    defaults = validate_spec({"data": {"dataset": dataset}})
    plugin: Dataset = registry.create("datasets", defaults.data.dataset.ref)
    info: DatasetInfo = plugin.info(location)
    # the defaults form the lowest layer, so that a default plugin's options can be given without its name
    settings = defaults.model_dump(exclude={"data", "content", "imported", "provenance"}) | {"monitor": NO_MONITOR}
    recommended = plugin.recommended(location)
    _check_recommended(recommended, settings | {"data": {"dataset": dataset}}, plugin)
    autoencoder = validate_spec({"data": merge(merge(recommended, advised or {}), given)["data"]}).data.autoencoder
    if autoencoder is not None:
        recommended = merge(recommended, latent_settings(autoencoder))
    raw, dropped = drop_absent(merge(merge(merge(settings, recommended), advised or {}), given))
    spec, reset = reset_ineffective(complete_plugins(_fitted(validate_spec(raw), given), info))
    for setting in (*reset, *dropped):
        if _names(asked, setting):
            raise SpecError(setting.message)
    unused = [f"{one.section}.{one.name}" for one in (*reset, *dropped) if _names(file or {}, one)]
    if unused:
        _LOG.warning("ignored in the spec file, having no effect with the other settings: %s", ", ".join(unused))
    return spec, info


def _check_recommended(recommended: Mapping[str, Any], settings: Mapping[str, Any], plugin: Dataset) -> None:
    """Check the recommended settings by themselves, so that a mistake in them is not taken for the user's.

    Raises:
        PluginError: if a key is unknown or a value out of range, or they choose what is not theirs to choose.
    """
    with plugin_call(origin_of(plugin), "recommended"):
        foreign = [name for name in (*_OWN_SECTIONS, "data.dataset") if name in _paths(recommended)]
        if foreign:
            raise ContractError(f"settings contain {', '.join(foreign)}, which a data set does not choose")
        if isinstance(recommended.get("monitor"), Mapping):  # without `every` it would be dropped unseen
            settings = merge(settings, {"monitor": {"every": 1}})
        try:
            validate_spec(drop_absent(merge(settings, recommended))[0])
        except UsageError as error:
            raise ContractError(f"settings are not valid: {error}") from error


def _paths(settings: Mapping[str, Any]) -> set[str]:
    """The names of the sections, and of the settings in them."""
    inner = {f"{section}.{name}" for section, one in settings.items() if isinstance(one, Mapping) for name in one}
    return {*settings, *inner}


def validate_spec(raw: Mapping[str, Any]) -> RunSpec:
    """Validate raw settings, possibly with an earlier schema version, as a RunSpec.

    Raises:
        SpecError: if a key is unknown or a value out of range (the message names it and what is allowed), or the
            settings have a newer schema version.
    """
    try:
        return RunSpec.model_validate(migrate(raw))
    except ValidationError as error:
        raise SpecError(f"spec: {describe_errors(error, RunSpec)}") from error


def _fitted(spec: RunSpec, given: Mapping[str, Any]) -> RunSpec:
    """Leave out a recommended learned variance on a continuous schedule, which has no steps to have a variance."""
    model = given.get("model")
    asked = isinstance(model, Mapping) and model.get("learned_variance") is not None
    if asked or not spec.model.learned_variance:
        return spec
    schedule = complete("schedules", spec.diffusion.schedule.ref)
    if not schedule.options.get("continuous"):
        return spec
    return spec.model_copy(update={"model": spec.model.model_copy(update={"learned_variance": False})})


def _names(settings: Mapping[str, Any], setting: Ineffective) -> bool:
    inner = settings.get(setting.section)
    return isinstance(inner, Mapping) and setting.name in inner


def load_stored_spec(text: str, source: str) -> RunSpec:
    """Load the spec that a run stored; `source` names the file in messages.

    Raises:
        RunError: if it is damaged, or was written by a newer version.
    """
    try:
        raw = parse_json(text)
        if not isinstance(raw, dict):
            raise SpecError("it holds no sections")
        return validate_spec(raw)
    except (ValueError, DebiasctlError) as error:
        raise RunError(f"{source} cannot be used: {error}") from error
