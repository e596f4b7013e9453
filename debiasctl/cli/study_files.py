"""A study's verdicts as a table in a file: CSV, Markdown, or LaTeX for a paper."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl.cli.table_output import in_latex, latex_needs
from debiasctl.cli.verdict_table import COLUMNS, Choice, Column, Row, chosen_columns, chosen_rows, rows_of

if TYPE_CHECKING:
    from debiasctl.comparison.study_record import Study

_WRITTEN = ("metric", "steps", "condition", "arm", "figure", "difference", "ratio", "verdict")  # of a table in a paper


def write_text(path: Path, text: str) -> None:
    """Write a table to a file, or to stdout where the path is `-`."""
    from debiasctl.files import write_bytes

    if str(path) == "-":
        print(text, end="")
    else:
        write_bytes(path, text.encode())


def csv_text(study: "Study", choice: Choice) -> str:
    """Every row, the reference's too, with every column, or the chosen ones, and full precision."""
    rows = _rows(study, choice)
    columns = [COLUMNS[name] for name in choice.columns] if choice.columns is not None else list(COLUMNS.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    for row in rows:
        writer.writerow([_exact(column.value(row)) for column in columns])
    return text.getvalue()


def _rows(study: "Study", choice: Choice) -> list[Row]:
    asked = choice.sort is not None or choice.top is not None
    return chosen_rows(study, choice, reference=True)[0] if asked else rows_of(study, reference=True)


def _exact(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def markdown_text(study: "Study", choice: Choice) -> str:
    """A table in Markdown, with the answer above and what it rests on below."""
    rows, _ = chosen_rows(study, choice, reference=True)
    columns = _columns(rows, choice)
    lines = [_cells([column.name for column in columns]), _cells(["---"] * len(columns))]
    lines += [_cells([column.text(row) for column in columns]) for row in rows]
    return "\n".join([_in_markdown(study.answer), "", *lines, "", f"{_in_markdown(caption(study))}", ""])


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_in_markdown, cells))} |"


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


def latex_text(study: "Study", choice: Choice) -> str:
    """A table for a paper, by the package booktabs."""
    rows, _ = chosen_rows(study, choice, reference=True)
    columns = _columns(rows, choice)
    numeric = [all(_is_figure(column.text(row)) for row in rows) for column in columns]
    body = []
    for index, row in enumerate(rows):
        if index and row.cell.key != rows[index - 1].cell.key and len(study.arms) > 1:
            body.append(r"\midrule")
        body.append(f"{' & '.join(in_latex(column.text(row)) for column in columns)} \\\\")
    whole = "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            f"\\caption{{{in_latex(study.answer)} {in_latex(caption(study))}}}",
            f"\\begin{{tabular}}{{{''.join('r' if one else 'l' for one in numeric)}}}",
            r"\toprule",
            f"{' & '.join(in_latex(column.name.replace('_', ' ')) for column in columns)} \\\\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
    return latex_needs(whole) + whole


def _columns(rows: Sequence[Row], choice: Choice) -> list[Column]:
    if choice.columns is not None or choice.everything:
        return chosen_columns(rows, choice)
    shown = [COLUMNS[name] for name in _WRITTEN]
    return [one for one in shown if one.name not in ("steps", "condition") or len({one.text(row) for row in rows}) > 1]


def _is_figure(text: str) -> bool:
    return bool(re.match(r"[-+×]? ?\d|-$", text))


def caption(study: "Study") -> str:
    """How the verdicts of a table were made."""
    seeds = sorted({len(arm.members) for arm in study.arms})
    number = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    primary = study.cell(study.primary)
    at = "" if primary.steps is None else f" at {primary.steps} steps"
    if seeds == [1]:
        return "One training seed an arm: figures of these sets of images, which say nothing about what differs."
    return (
        f"Means ± standard deviations over {number} training seeds; differences from {study.reference} and ratios to "
        f"it with 95 % intervals over seeds. Primary metric: {primary.metric}{at}; verdicts on the others are "
        f"corrected for their number (Holm). Equivalent: within {100 * study.margin:.3g} % of the reference."
    )
