"""The base of a spec's sections."""

from typing import Any

from pydantic import ConfigDict

from debiasctl.api.options import Settings


class Section(Settings):
    """The base of a spec's sections, which are frozen and refuse unknown keys."""

    model_config = ConfigDict(title="section")


def without_null(dumped: dict[str, Any], name: str) -> dict[str, Any]:
    """The settings without one that is null, so that specs and keys are those of versions that did not have it."""
    if dumped.get(name) is None:
        dumped.pop(name, None)
    return dumped
