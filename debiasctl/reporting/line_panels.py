"""Panels of curves whose points have intervals, and matrices of cosines, in the style of all pictures."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.reporting.panel_figures import Height, draw_panels, line_handles
from debiasctl.reporting.panels import number_axis, number_text, panels_in
from debiasctl.reporting.study_pictures import study_style
from debiasctl.reporting.style import WIDTHS, Width, finish_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = Height(1.75, 1.2, 0.2)
_LETTERS = 32  # of a line of a title
_DECADES = 1.6  # of a logarithmic axis, below which powers of ten alone are too few ticks
Value = float | None


@dataclass(frozen=True)
class Line:
    """A curve: `y` and the ends of its intervals at `x`, None where there is none; equal labels are one in the legend.

    `faint` curves are thin, such as those that others are compared with.
    """

    label: str
    colour: str
    x: Sequence[float]
    y: Sequence[Value]
    low: Sequence[Value] | None = None
    high: Sequence[Value] | None = None
    dashes: Any = "-"
    faint: bool = False


@dataclass(frozen=True)
class LinePanel:
    """One panel of curves; `level` is a thin line across it."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    y_log: bool = False
    level: float | None = None


def panels_json(panels: Sequence[LinePanel]) -> list[dict[str, Any]]:
    """What `draw_lines` draws, as JSON."""
    return [
        {
            "title": panel.title, "x": panel.x_label, "y": panel.y_label,
            "lines": [
                {
                    "label": line.label, "x": list(line.x), "y": list(line.y),
                    **({} if line.low is None else {"low": list(line.low)}),
                    **({} if line.high is None else {"high": list(line.high)}),
                }
                for line in panel.lines
            ],
        }
        for panel in panels
    ]  # fmt: skip


def draw_lines(panels: Sequence[LinePanel], *, width: Width, num_columns: int = 3) -> "Figure":
    """Draw the panels with one legend; intervals are bars through the points."""
    named = {line.label: line for panel in panels for line in panel.lines if line.label}
    lines = [(label, one.colour, one.dashes, 0.8 if one.faint else 1.3) for label, one in named.items()]
    return draw_panels(panels, _draw, lambda: line_handles(lines), width=width, height=_HEIGHT, columns=num_columns)


def _draw(axes: Any, panel: LinePanel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    if panel.y_log:
        axes.set_yscale("log")
    if panel.level is not None:
        axes.axhline(panel.level, color="#666666", linewidth=0.7, zorder=1)
    for number, line in enumerate(panel.lines):
        y = [_drawn(value, panel.y_log) for value in line.y]
        axes.plot(
            line.x, y, color=line.colour, linestyle=line.dashes, linewidth=0.8 if line.faint else 1.2,
            marker="o" if len(line.x) <= 24 else None, markersize=1.6 if line.faint else 2.3, zorder=3 + number / 100,
        )  # fmt: skip
        if line.low is not None and line.high is not None:
            ends = [(_drawn(low, panel.y_log), _drawn(high, panel.y_log))
                    for low, high in zip(line.low, line.high, strict=True)]  # fmt: skip
            axes.vlines(line.x, *zip(*ends, strict=True), color=line.colour, linewidth=0.8, alpha=0.7, zorder=2)
    axes.set_title("\n".join(textwrap.wrap(panel.title, _LETTERS, max_lines=2)), loc="left")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    number_axis(axes.xaxis)
    if not panel.y_log:
        number_axis(axes.yaxis)
    else:
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
        low, high = axes.get_ylim()
        subs = (1.0, 2.0, 5.0) if math.log10(high / low) < _DECADES else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=7))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    finish_panel(axes)


def _drawn(value: Value, log: bool) -> float:
    return math.nan if value is None or (log and value <= 0) else value


@dataclass(frozen=True)
class Matrix:
    """A symmetric matrix of cosines between named parts, None where one is not known; in `sure` the sign is."""

    title: str
    names: Sequence[str]
    values: Sequence[Sequence[Value]]
    sure: Sequence[Sequence[bool]]


def draw_matrices(matrices: Sequence[Matrix], *, label: str, width: Width) -> "Figure":
    """Draw matrices side by side in one scale from -1 to 1; a dot marks a cosine whose sign is open."""
    from matplotlib.figure import Figure

    columns = min(len(matrices), 1 if width == "column" else 3 if len(matrices) > 2 else 2)
    rows = -(-len(matrices) // columns)
    each = WIDTHS[width] / max(columns, 2 if width == "page" else 1)
    with study_style():
        figure = Figure(figsize=(min(WIDTHS[width], each * columns + 0.6), rows * (each * 0.95)), layout="constrained")
        found = panels_in(figure, len(matrices), columns=columns)
        for axes, matrix in zip(found, matrices, strict=True):
            image = axes.imshow(
                [[math.nan if value is None else value for value in row] for row in matrix.values],
                cmap="RdBu", vmin=-1, vmax=1,
            )  # fmt: skip
            axes.set_facecolor("#cccccc")
            places = [
                (x, y)
                for y, row in enumerate(matrix.values)
                for x, value in enumerate(row)
                if value is not None and not matrix.sure[y][x]
            ]
            if places:
                axes.plot(*zip(*places, strict=True), marker="o", markersize=1.5, color="#333333", linestyle="none")
            axes.set_xticks(
                range(len(matrix.names)), labels=matrix.names, rotation=60, ha="right", rotation_mode="anchor"
            )
            axes.set_yticks(range(len(matrix.names)), labels=matrix.names)
            axes.set_title("\n".join(textwrap.wrap(matrix.title, _LETTERS, max_lines=2)), loc="left")
        figure.colorbar(image, ax=found, label=label, shrink=0.7, aspect=25)
        return figure
