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
    "*": "{*}",  # likewise
    '"': "''", "·": r"$\cdot$", "→": r"$\to$", "←": r"$\leftarrow$", "≈": r"$\approx$", "√": r"$\surd$",
    "σ": r"$\sigma$",
}  # fmt: skip
_SIGN = re.compile(r"(?<![\w.])[-+](?=\.?\d)")  # of a number: no hyphen
_LIGATURES = re.compile(r"(?<=-)(?=-)|(?<=,)(?=,)")
_TYPESET = "\u2010\u2011\u2012\u2013\u2014\u2018\u2019\u201c\u201d\u2026"  # which LaTeX has beside Latin letters
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
    head, *lines = (" & ".join(map(in_latex, line)) + r" \\" for line in (columns, *cells))
    whole = [
        rf"\begin{{tabular}}{{{places}}}",
        r"\toprule",
        head,
        r"\midrule",
        *lines,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return latex_needs("\n".join(whole)) + "\n".join(whole) + "\n"


def latex_needs(text: str) -> str:
    """Comments that say what a text in LaTeX needs to be typeset."""
    needs = "% needs \\usepackage{booktabs}\n"
    if any(ord(mark) >= 0x180 and mark not in _TYPESET for mark in text):
        needs += "% has letters that pdfLaTeX does not know: use XeLaTeX or LuaLaTeX, and a font that has them\n"
    return needs


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


def in_latex(text: str) -> str:
    """Text in one line with LaTeX's special letters escaped, and signs of numbers as such."""
    plain = _LIGATURES.sub("\0", _SIGN.sub(lambda sign: "−" if sign[0] == "-" else "\1", _cell(text)))
    return "".join({"\0": "{}", "\1": "$+$"}.get(one) or _LATEX.get(one, one) for one in plain)
