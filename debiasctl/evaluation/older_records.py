"""Migrating records of evaluations that older versions wrote."""

from collections.abc import Mapping
from typing import Any, Final

VERSION: Final = 3


def from_version_2(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Migrate a record of version 2, whose extrapolations had no standard error, and a residual named like one."""
    metrics = raw.get("metrics")
    if not isinstance(metrics, dict):
        return {**raw, "schema_version": VERSION}  # validation then refuses it
    migrated = {}
    for name, figure in metrics.items():
        fit = figure.get("extrapolated") if isinstance(figure, dict) else None
        if isinstance(fit, dict):
            renamed = {"fit_residual" if key == "residual" else key: value for key, value in fit.items()}
            figure = {**figure, "extrapolated": renamed}
        migrated[name] = figure
    return {**raw, "schema_version": VERSION, "metrics": migrated}


def from_version_1(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Migrate a record of version 1, to which fields were added over time; missing ones are unknown."""
    raw = {**raw, "schema_version": VERSION}
    measured, metrics = raw.get("measured"), raw.get("metrics")
    if not isinstance(measured, dict) or not isinstance(metrics, dict):
        return raw  # validation then refuses it
    unknown = {
        "num": measured.get("num"),
        "corrected": None,
        "interval": None,
        "interval_reason": "it was measured before there were intervals",
    }
    return {
        "images_seen": None,
        "unavailable": {},
        "features_file": None,
        **raw,
        "measured": {"class_counts": None, "precision": None} | measured,
        "metrics": {name: unknown | one if isinstance(one, dict) else one for name, one in metrics.items()},
    }
