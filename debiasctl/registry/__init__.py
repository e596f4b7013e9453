"""Finds, loads and makes plugins; references and choices have modules of their own."""

from debiasctl.registry.entry_points import (
    PluginRecord,
    ResolvedPlugin,
    as_ref,
    create,
    find,
    load,
    load_object,
    records,
    resolve,
)
from debiasctl.registry.kinds import KINDS, Kind, base_of, kind_named

__all__ = [
    "KINDS",
    "Kind",
    "PluginRecord",
    "ResolvedPlugin",
    "as_ref",
    "base_of",
    "create",
    "find",
    "kind_named",
    "load",
    "load_object",
    "records",
    "resolve",
]
