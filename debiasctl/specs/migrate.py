"""Migration of specs with earlier schema versions to the current one."""

from collections.abc import Callable, Mapping
from typing import Any

from debiasctl.errors import SpecError
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


_STEPS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_to_2,)
