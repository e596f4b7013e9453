"""`debiasctl.api`, name by name, for Sphinx's autodoc, in the order of the kinds of plugins."""

import re
from types import FunctionType
from typing import Any

from debiasctl import api

_PLAIN = re.compile(r"(?<![`:\w])`([^`\n]+)`(?!`)")


def page() -> str:
    """The body of the page."""
    parts: dict[str, list[str]] = {}
    for name in api.__all__:
        parts.setdefault(_group(getattr(api, name)), []).append(name)
    return "\n\n".join(_section(group, names) for group, names in parts.items())


def prepare_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring as reStructuredText has it: `code` in two backticks, a blank line before a list."""
    plain, lines[:] = list(lines), []
    for line in plain:
        if line.startswith("- ") and lines and lines[-1] and not lines[-1].startswith(("- ", "  ")):
            lines.append("")
        lines.append(_PLAIN.sub(r"``\1``", line))


def _group(member: Any) -> str:
    module = getattr(member, "__module__", "")
    return module.rpartition(".")[2] if module.startswith(f"{api.__name__}.") else "types"


def _section(group: str, names: list[str]) -> str:
    lines = [f"## {group.replace('_', ' ')}", "", "```{eval-rst}"]
    for name in names:
        member = getattr(api, name)
        if isinstance(member, type):
            bases = ["   :show-inheritance:"] if member.__bases__ != (object,) else []
            lines += [f".. autoclass:: debiasctl.api.{name}", "   :members:", *bases, ""]
        elif isinstance(member, FunctionType):
            lines += [f".. autofunction:: debiasctl.api.{name}", ""]
        else:
            lines += [f".. autodata:: debiasctl.api.{name}", ""]
    return "\n".join([*lines, "```"])
