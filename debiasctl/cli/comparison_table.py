"""What `debiasctl compare` prints: a row for each run, below one another, however many runs there are."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from debiasctl.cli.output import line_of, print_table, print_text, terminal_width
from debiasctl.cli.tables import GAP, Table, table_lines, text_width, wrapped
from debiasctl.wording import printable

if TYPE_CHECKING:
    from debiasctl.comparison.tables import Comparison, Figure

CONDITIONS = {
    "features": "features",
    "features_identity": "of identity",
    "dataset": "against",
    "dataset_hash": "of content",
    "reference": "reference",
    "class_counts": "class counts",
    "seed": "seed",
    "weights": "weights",
    "class": "class",
    "precision": "precision",
}  # columns of a CSV, and named above a table where figures differ in them
DIFFERENCE = "difference (95 %, these two sets of images)"
_LETTERS = 12  # of a condition


def print_comparison(compared: "Comparison") -> None:
    """Print what differs in the specs, and below it a table of figures for each way in which they were measured."""
    _print_differences(compared)
    measured = [figure.measured.to_json() for figure in compared.figures]
    with_features = [conditions for conditions in measured if conditions["features"] != "none"]
    varying = [
        field
        for field in CONDITIONS
        # figures of the pixels themselves have no features, whose identity could differ
        if len({str(one.get(field)) for one in (with_features if field == "features_identity" else measured)}) > 1
    ]
    sections: dict[str, list[Figure]] = {}
    for figure, conditions in zip(compared.figures, measured, strict=True):
        named = [f"{CONDITIONS[field]} {str(conditions.get(field))[:_LETTERS]}" for field in varying]
        sampler = str(conditions["sampler"]).partition(":")[0]
        how = ", ".join([sampler, f"{conditions['steps']} steps", f"N {conditions['num']}", *named])
        sections.setdefault(how, []).append(figure)
    width = terminal_width()
    for how, figures in sections.items():
        title = f"{printable(how)} (differences from {compared.runs[0]})"
        print("\n".join(section_lines(title, compared.runs, figures, width)), end="\n\n")


def section_lines(title: str, runs: Sequence[str], figures: "Sequence[Figure]", width: int | None) -> Iterator[str]:
    """One table of figures: each metric's name beside its runs, or above them where there is no room for it."""
    yield from [title] if width is None else wrapped(title, width)
    blocks = [_rows(runs, figure) for figure in figures]
    heads = ["run", "value", DIFFERENCE]
    columns = ["metric", *heads, "floor", "better"]
    rows = []
    for figure, block in zip(figures, blocks, strict=True):
        for number, cells in enumerate(block):
            once = number == 0 or width is None  # in a file each line says all, so that it can be searched
            rows.append(
                [printable(figure.metric), *cells, _floor(figure), figure.better] if once else ["", *cells, "", ""],
            )
    table = Table(columns, rows, rule=line_of(), left=(3,))
    if table.fits(width) or width is None:
        yield from table_lines(table, width)
        return
    inner = Table(heads, [cells for block in blocks for cells in block], rule=line_of(), left=(2,))
    if inner.fits(width - len(GAP)):
        head, rule, *lines = table_lines(inner, width - len(GAP))
        yield from (GAP + head, GAP + rule)
    else:
        yield from wrapped(", ".join(heads), width)
        yield line_of() * width
        lines = []
    for figure, block in zip(figures, blocks, strict=True):
        floor = "" if figure.floor is None else f", floor {_floor(figure)}"
        yield from wrapped(f"{printable(figure.metric)}: {figure.better} is better{floor}", width)
        if lines:
            yield from (GAP + lines.pop(0) for _ in block)
            continue
        for cells in block:
            yield from _stacked(cells, width)


def _stacked(cells: Sequence[str], width: int) -> Iterator[str]:
    """Cells in as few lines as they take, none of them broken that has a line's length; further lines are indented."""
    line, indent = GAP + cells[0], 2 * GAP
    for cell in filter(None, map(str.strip, cells[1:])):
        if text_width(line + GAP + cell) <= width:
            line += GAP + cell
            continue
        yield line
        *whole, line = [indent + part for part in wrapped(cell, width - len(indent))]
        yield from whole
    yield line


def _rows(runs: Sequence[str], figure: "Figure") -> list[list[str]]:
    """A run's name, its value, and its difference from the first run's with the interval."""
    differences = [""]
    for difference, interval in zip(figure.differences[1:], figure.intervals[1:], strict=True):
        if interval is None:
            differences.append(f"{difference:+.3g} (no interval)")
        else:  # the estimate is what the interval is of: the difference of infinitely many images
            differences.append(f"{interval.estimate:+.3g} ({interval.low:+.3g} to {interval.high:+.3g})")
    return [
        [printable(name), f"{value:.4g}", difference]
        for name, value, difference in zip(runs, figure.values, differences, strict=True)
    ]


def _floor(figure: "Figure") -> str:
    return "-" if figure.floor is None else f"{figure.floor:.4g} (N {figure.floor_num})"


def _print_differences(compared: "Comparison") -> None:
    """The settings that differ: a row each beside two runs, and a column each where there are more runs."""
    fields = {field: [_cell(value) for value in values] for field, values in compared.differences.items()}
    steps = {"checkpoint": [", ".join(map(str, of_run)) for of_run in compared.checkpoints]}
    title = "what differs" if fields else "the specs are equal"
    rows = [[name, *cells] for name, cells in (fields | steps).items()]
    columns = [title, *compared.runs]
    if len(compared.runs) > 2:
        columns, *rows = [list(row) for row in zip(*[columns, *rows], strict=True)]
    shown = [[printable(cell) for cell in row] for row in rows]
    width = terminal_width()
    if Table(columns, shown).fits(width) or width is None:
        print_table(columns, rows)
        return
    print_text(title)
    for number, name in enumerate(compared.runs):  # each run is a list of its settings
        said = [f"{field} {cells[number]}" for field, cells in (fields | steps).items()]
        print("\n".join(_stacked([printable(name), *map(printable, said)], width)))
    print()


def _cell(value: Any) -> str:
    import json

    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return "-" if value in (None, []) else value if isinstance(value, str) else json.dumps(value)
