"""Markdown out of plain text: what the code says is written for terminals, and is to read the same on a page."""

import re
from collections.abc import Sequence

from debiasctl.registry.describe import FieldDescription

_CODE = re.compile(r"(`+[^`]+`+)")
_SPECIAL = re.compile(r"([\\*_<>\[\]{}#$~])")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][\w-]*\w)")
_ARXIV = re.compile(r"\b(\d{4}\.\d{5})\b")


def text(plain: str) -> str:
    """A line or paragraph: options become code, papers links, and what else Markdown would read as marks is escaped."""
    parts = _CODE.split(plain)
    return "".join(part if index % 2 else _prose(part) for index, part in enumerate(parts))


def docstring(plain: str) -> str:
    """A docstring, cleaned of its indentation: paragraphs and lists as they are, indented lines as code."""
    blocks = []
    for block in plain.strip().split("\n\n"):
        lines = block.splitlines()
        if all(line.startswith("    ") for line in lines):
            blocks.append("\n".join(["```text", *(line[4:] for line in lines), "```"]))
        else:
            blocks.append("\n".join(text(line) for line in lines))
    return "\n\n".join(blocks)


def code(plain: str) -> str:
    """Code within a line."""
    fence = "``" if "`" in plain else "`"
    return f"{fence}{plain}{fence}" if plain else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in cells)} |" for cells in lines)


def fields(heads: str, described: Sequence[FieldDescription]) -> str:
    """A table of options or settings; `heads` is what one is called."""
    rows = [
        [
            code(field.name),
            code(field.type) if "|" in field.type else text(field.type),
            field.default_text if field.required else code(field.default_text),
            text(field.description),
        ]
        for field in described
    ]
    return table([heads, "type", "default", "meaning"], rows)


def anchored(target: str, heading: str) -> str:
    """A heading that `#target` leads to."""
    return f"({target})=\n{heading}"


def _cell(markdown: str) -> str:
    return markdown.replace("|", r"\|").replace("\n", " ")


def _prose(plain: str) -> str:
    options = _OPTION.split(plain)
    return "".join(
        code(part) if index % 2 else _ARXIV.sub(r"[\1](https://arxiv.org/abs/\1)", _SPECIAL.sub(r"\\\1", part))
        for index, part in enumerate(options)
    )
