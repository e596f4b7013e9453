"""The keys of the JSON outputs, from json-keys.yaml, which a test compares with what the commands print."""

from pathlib import Path
from typing import Any

import yaml

from .markdown import anchored, code, table, text

SOURCE = Path(__file__).parents[2] / "reference" / "json-keys.yaml"


def documented() -> dict[str, dict[str, Any]]:
    """By command: `about`, what is printed; and `keys`, each with its meaning."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    return found


def page() -> str:
    """The body of the page."""
    parts = []
    for command, entry in documented().items():
        rows = [[code(key), text(str(meaning))] for key, meaning in entry["keys"].items()]
        anchor = f"json-{command}".replace(" ", "-").replace("---", "-")
        parts += [anchored(anchor, f"## {command}"), text(entry["about"]), table(["key", "meaning"], rows)]
    return "\n\n".join(parts)
