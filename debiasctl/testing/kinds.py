"""Checking a plugin of any kind."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from debiasctl.registry import PluginRecord
from debiasctl.testing.every_kind import examine
from debiasctl.testing.laws import Laws
from debiasctl.testing.results import Result


def examined(record: PluginRecord, options: Mapping[str, Any], **more: Any) -> Iterator[Result]:
    """Check the laws of a plugin's kind one after another; `more` is what the laws of its kind are told.

    The module of a kind's laws is imported when it is needed.
    """
    if record.kind == "commands":
        from debiasctl.testing.commands import examine_command

        return examine_command(record)
    laws: Laws = importlib.import_module(f"debiasctl.testing.{record.kind}").laws
    return examine(record, options, laws, **more)
