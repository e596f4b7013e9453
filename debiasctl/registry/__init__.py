"""Finds, loads and makes plugins; references and choices have modules of their own."""

from debiasctl.registry.entry_points import (
    KINDS,
    PluginRecord,
    ResolvedPlugin,
    as_ref,
    base_of,
    create,
    find,
    kind_named,
    load,
    load_object,
    records,
    resolve,
)

__all__ = [
    "KINDS",
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
