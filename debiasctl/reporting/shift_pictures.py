"""A forest of shifts: each row's shift of every channel with its interval, a panel for each arm."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.reporting.names import short_names
from debiasctl.reporting.panels import number_axis, panels_in
from debiasctl.reporting.study_pictures import draw_legend, study_style
from debiasctl.reporting.style import WIDTHS, Width, finish_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CHANNELS = {"grey": ("#333333", "grey"), "r": ("#CC3311", "red"), "g": ("#228833", "green"), "b": ("#0077BB", "blue")}
_OTHERS = ("#333333", "#E69F00", "#CC79A7", "#56B4E9", "#882255")
_ROW_INCHES, _QUIET = 0.24, "#666666"
_REACH = 4.0  # times as far as the shift as it is and the median interval reach, an axis reaches at most
_NARROW = 2.4  # inches, of a panel at least


@dataclass(frozen=True)
class ShiftRow:
    """A row's shift by channel: `values` are (channel, value, low, high); `note` stands at its right."""

    label: str
    values: Sequence[tuple[str, float, float | None, float | None]]
    note: str = ""
    strong: bool = False


@dataclass(frozen=True)
class ShiftPanel:
    """An arm's rows, the first of which is the shift as it is."""

    title: str
    rows: Sequence[ShiftRow]


def draw_shifts(panels: Sequence[ShiftPanel], *, x_label: str, note_label: str, width: Width) -> "Figure":
    """A row an intervention with a mark a channel; no shift is a line, and the shift as it is is shaded."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    labels = list(dict.fromkeys(row.label for panel in panels for row in panel.rows))
    channels = list(dict.fromkeys(value[0] for panel in panels for row in panel.rows for value in row.values))
    columns = max(1, min(len(panels), int((WIDTHS[width] - 1.2) / _NARROW)))
    rows = -(-len(panels) // columns)
    height = rows * (len(labels) * _ROW_INCHES + 0.45) + 0.4
    limit = _limit(panels)
    with study_style():
        figure = Figure(figsize=(WIDTHS[width], height), layout="constrained")
        found = panels_in(figure, len(panels), columns=columns, sharex=True, sharey=True)
        for axes, panel in zip(found, panels, strict=True):
            strong = {row.label for row in panel.rows if row.strong} if len(panels) == 1 else set()
            _draw_panel(axes, panel, labels, channels, limit=limit, note_label=note_label, strong=strong)
        for axes in found[-columns:]:
            axes.set_xlabel(x_label)
        marks = [
            (Line2D([], [], color=_style(name, channels)[0], marker="o", markersize=3.6), _style(name, channels)[1])
            for name in channels
        ]
        draw_legend(figure, marks if len(marks) > 1 else [], width)
        return figure


def _limit(panels: Sequence[ShiftPanel]) -> float:
    """How far the axis reaches on both sides: an intervention that shifts far more than all else is cut."""
    ends = sorted(
        max(abs(end) for end in value[1:] if end is not None)
        for panel in panels for row in panel.rows for value in row.values
    )  # fmt: skip
    first = [abs(end) for panel in panels for row in panel.rows[:1] for one in row.values for end in one[1:] if end]
    usual = max([*first, ends[len(ends) // 2]], default=0.0) if ends else 0.0
    return 1.08 * min(ends[-1] if ends else 0.0, _REACH * usual) or 0.01


def _style(name: str, channels: Sequence[str]) -> tuple[str, str]:
    if name in _CHANNELS:
        return _CHANNELS[name]
    return _OTHERS[channels.index(name) % len(_OTHERS)], f"channel {name}"


def _draw_panel(
    axes: Any,
    panel: ShiftPanel,
    labels: Sequence[str],
    channels: Sequence[str],
    *,
    limit: float,
    note_label: str,
    strong: set[str],
) -> None:
    axes.axvline(0, color=_QUIET, linewidth=0.7, zorder=1)
    for row in panel.rows:
        y = labels.index(row.label)
        for value in row.values:
            place = channels.index(value[0])
            offset = (place - (len(channels) - 1) / 2) * 0.24
            _draw_value(axes, value, y=y + offset, colour=_style(value[0], channels)[0], limit=limit)
        axes.annotate(
            row.note, (1.0, y), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
            va="center", fontsize=7, fontweight="bold" if row.strong else "normal", annotation_clip=False,
        )  # fmt: skip
    axes.axhspan(-0.5, 0.5, color="#f0f0f0", linewidth=0, zorder=0)
    axes.annotate(
        note_label, (1.0, 0), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
        va="center", fontsize=6.5, color=_QUIET, annotation_clip=False,
    )  # fmt: skip
    axes.set_xlim(-limit, limit)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels=labels)
    axes.tick_params(axis="y", length=0)
    for text, label in zip(axes.get_yticklabels(), labels, strict=False):  # a panel at the right shows none
        text.set_fontweight("bold" if label in strong else "normal")
    number_axis(axes.xaxis, symmetric=True)
    (title,) = short_names([panel.title], longest=34)
    axes.set_title(title, loc="left")
    finish_panel(axes)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)


def _draw_value(
    axes: Any, value: tuple[str, float, float | None, float | None], *, y: float, colour: str, limit: float
) -> None:
    _, middle, low, high = value
    if not math.isfinite(middle):
        return
    if low is not None and high is not None and low < limit and high > -limit:
        axes.plot(
            [max(low, -limit), min(high, limit)], [y, y], color=colour, linewidth=1.2, zorder=2, solid_capstyle="butt"
        )
    if abs(middle) <= limit:
        axes.plot([middle], [y], marker="o", markersize=3.4, color=colour, zorder=3)
    else:
        mark, edge = (">", limit) if middle > 0 else ("<", -limit)
        axes.plot([0.99 * edge], [y], marker=mark, markersize=3.6, color=colour, zorder=3, clip_on=False)
