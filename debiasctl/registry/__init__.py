"""Finds, loads and makes plugins; references and choices have modules of their own."""

from debiasctl.registry.entry_points import (
    ResolvedPlugin,
    as_ref,
    create,
    find,
    load,
    load_object,
    resolve,
)
from debiasctl.registry.kinds import KINDS, Kind, base_of, kind_named
from debiasctl.registry.metadata import PluginRecord, lent, metadata_notes, records

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
    "lent",
    "load",
    "load_object",
    "metadata_notes",
    "records",
    "resolve",
]
