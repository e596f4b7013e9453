"""Every built-in plugin of every kind with its options: what `debiasctl plugins describe` prints."""

import inspect
from typing import Any

from debiasctl import registry
from debiasctl.registry.describe import describe_fields

from .markdown import anchored, docstring, fields, text


def page() -> str:
    """The body of the page."""
    parts = []
    for kind, about in registry.KINDS.items():
        names = [record.name for record in registry.records(kind) if record.distribution == "debiasctl"]
        listed = "" if names else "debiasctl has none of its own."
        parts += [anchored(kind, f"## {kind}"), f"{text(about.what[0].upper() + about.what[1:])}. {listed}"]
        parts += [_plugin(kind, name) for name in names]
    return "\n\n".join(parts)


def _plugin(kind: str, name: str) -> str:
    plugin: Any = registry.load(kind, name)
    options = describe_fields(plugin.Options)
    return "\n\n".join(
        [
            anchored(f"{kind}-{name}", f"### {name}"),
            docstring(inspect.getdoc(plugin) or ""),
            fields("option", options) if options else "It takes no options.",
        ]
    )
