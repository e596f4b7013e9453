"""Checking a plugin of any kind."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from debiasctl.registry import PluginRecord
from debiasctl.testing.every_kind import examine
from debiasctl.testing.laws import Laws
from debiasctl.testing.results import Result


def examined(record: PluginRecord, options: Mapping[str, Any], **more: Any) -> Iterator[Result]:
    """Check the laws of a plugin's kind one after another; `more` is what the laws of its kind are told."""
    if record.kind == "commands":
        from debiasctl.testing.commands import examine_command

        return examine_command(record)
    return examine(record, options, laws_of(record.kind), **more)


def laws_of(kind: str) -> Laws:
    """The laws of a kind, beyond those of every plugin; their module is imported when they are needed."""
    found: Laws = importlib.import_module(f"debiasctl.testing.{kind}").laws
    return found
