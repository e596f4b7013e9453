"""Migration of specs with earlier schema versions to the current one."""

from collections.abc import Callable, Mapping
from typing import Any

from debiasctl.errors import SpecError
from debiasctl.registry.refs import parse_ref
from debiasctl.specs.sections import SCHEMA_VERSION, MonitorSection

_EMA_FIELDS_OF_1 = {
    "decay": ("decay", "warmup"),
    "half-life": ("half_life_images", "rampup_ratio"),
    "power": ("lengths", "snapshot_every"),
}


def migrate(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate settings to the current schema version; validation reports invalid ones later.

    Raises:
        SpecError: if the spec was written by a newer version, or its version is no whole number from 1.
    """
    version = raw.get("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version < 1:  # True counts as 1 elsewhere
        raise SpecError(
            f"the spec's schema_version is {version!r:.40}, and must be a whole number from 1 to {SCHEMA_VERSION}. "
            "Correct it, or leave it out for the newest"
        )
    if version > SCHEMA_VERSION:
        raise SpecError(
            f"the spec has schema version {version}; this debiasctl reads up to {SCHEMA_VERSION}. Update debiasctl"
        )
    migrated = dict(raw)
    for old in range(version, SCHEMA_VERSION):
        migrated = _STEPS[old - 1](migrated) | {"schema_version": old + 1}
    return migrated


def migrate_file(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Migrate a spec file's settings without dropping those that have no effect, which are reported elsewhere.

    Raises:
        SpecError: if `migrate` raises it.
    """
    migrate(raw)
    migrated = dict(raw)
    for old in range(max(2, raw.get("schema_version", SCHEMA_VERSION)), SCHEMA_VERSION):  # 1 left out nothing else
        migrated = _STEPS[old - 1](migrated) | {"schema_version": old + 1}
    return migrated


def _to_2(raw: dict[str, Any]) -> dict[str, Any]:
    """Drop what version 1 stored in addition: settings of every kind of average, and of a monitor without `every`."""
    ema, monitor = raw.get("ema"), raw.get("monitor")
    if isinstance(ema, Mapping):
        kind = ema.get("kind", "decay")
        others = {name for other, names in _EMA_FIELDS_OF_1.items() if other != kind for name in names}
        raw = raw | {"ema": {name: value for name, value in ema.items() if name not in others}}
    known = MonitorSection.model_fields.keys()  # an unknown setting is left for validation to refuse
    if isinstance(monitor, Mapping) and monitor.get("every") is None and monitor.keys() <= known:
        raw = raw | {"monitor": None}
    return raw


def _to_3(raw: dict[str, Any]) -> dict[str, Any]:
    """Keep the classes and the split that version 2 read from a folder of images."""
    data = raw.get("data")
    dataset = data.get("dataset") if isinstance(data, Mapping) else None
    if isinstance(dataset, str) and dataset.partition(":")[0] == "folder":
        ref = parse_ref(dataset)
        dataset = {"name": ref.name, "options": dict(ref.options)}
    if not isinstance(data, Mapping) or not isinstance(dataset, Mapping) or dataset.get("name") != "folder":
        return raw
    given = dataset.get("options")
    options = {"classes": "folders", "split": "by-name", **(given if isinstance(given, Mapping) else {})}
    return raw | {"data": {**data, "dataset": {**dataset, "options": options}}}


def _to_4(raw: dict[str, Any]) -> dict[str, Any]:
    """Write out the variable of a stored logit-normal, which was always time: runs before and after are of one arm."""
    loss = raw.get("loss")
    if not isinstance(loss, Mapping) or not isinstance(loss.get("timesteps"), Mapping):
        return raw
    return raw | {"loss": {**loss, "timesteps": _of_time(loss["timesteps"])}}


def _of_time(timesteps: Mapping[str, Any]) -> dict[str, Any]:
    """The same distribution of t, as stored, or the one whose base it is."""
    options = timesteps.get("options")
    if not isinstance(options, Mapping):
        return dict(timesteps)
    if timesteps.get("name") == "logit-normal":
        options = {"variable": "time", **options}
    elif isinstance(options.get("base"), Mapping):
        options = {**options, "base": _of_time(options["base"])}
    return {**timesteps, "options": dict(options)}


_STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_to_2, _to_3, _to_4)
