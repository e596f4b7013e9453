"""Tables in the forms that other programs read: CSV, Markdown and LaTeX, with what their syntax would take escaped."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Literal

from debiasctl.cli.tables import is_number

Form = Literal["csv", "md", "latex"]
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "`": r"\textasciigrave{}", "±": r"$\pm$", "×": r"$\times$",
    "−": "$-$", "≥": r"$\ge$", "≤": r"$\le$", "∞": r"$\infty$", "…": r"\dots{}", "²": r"$^2$", "–": "--",
    "[": "{[}", "]": "{]}",  # a row that begins with one would be read as an option of the line before it
}  # fmt: skip
_MINUS = re.compile(r"(?<![\w.])-(?=\.?\d)")
_MARKDOWN = re.compile(r"[\\`*\[\]|<>&~#]|(?<![^\W_])_|_(?![^\W_])")


def table_text(form: Form, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as text of that form, which ends with a new line; None is an empty cell, and numbers keep every digit."""
    return {"csv": _csv, "md": _markdown, "latex": _latex}[form](columns, rows)


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value, whole=True) for value in row] for row in rows)
    return text.getvalue()


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [[_cell(value) for value in row] for row in rows]
    ends = ["---:" if right else "---" for right in _numeric(columns, cells)]
    lines = [[_in_markdown(name) for name in columns], ends, *([_in_markdown(one) for one in row] for row in cells)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _latex(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    r"""A tabular with the rules of the package booktabs, to be put in a paper by \input."""
    cells = [[_cell(value) for value in row] for row in rows]
    places = "".join("r" if right else "l" for right in _numeric(columns, cells))
    head, *lines = (" & ".join(map(_in_latex, line)) + r" \\" for line in (columns, *cells))
    whole = [
        rf"\begin{{tabular}}{{{places}}}",
        r"\toprule",
        head,
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "% needs \\usepackage{booktabs}\n" + "\n".join(whole) + "\n"


def _cell(value: Any, *, whole: bool = False) -> str:
    """A value as text; in one line, unless it is to stay `whole`."""
    text = "" if value is None else repr(value) if isinstance(value, float) else str(value)
    if whole:
        return text
    parts = ("" if unicodedata.category(one) in ("Cc", "Cf", "Cs") else one for one in " ".join(text.split()))
    return "".join(parts)


def _numeric(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[bool]:
    return [bool(cells) and all(is_number(row[number]) for row in cells) for number in range(len(columns))]


def _in_markdown(text: str) -> str:
    return _MARKDOWN.sub(lambda found: {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(found[0], f"\\{found[0]}"), text)


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(one, one) for one in _MINUS.sub("−", text))
