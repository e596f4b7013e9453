"""Drawing of curves with their intervals, of stacked parts, and of rows of images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from debiasctl.reporting import panel_figures
from debiasctl.reporting.panels import number_axis
from debiasctl.reporting.study_pictures import study_style
from debiasctl.reporting.style import WIDTHS, Width, finish_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = panel_figures.Height(1.75, 1.25, 0.2)
_SHADE = 0.16  # of an interval
_COLUMNS = 6  # images of a row
_TILE, _LETTER = 0.55, 0.056  # inches, at most, of an image; of a letter of 7 points


@dataclass(frozen=True)
class Curves:
    """A curve with its interval at each x."""

    label: str
    colour: str
    dashes: Any
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Stack:
    """A part that is drawn on top of the others; None where it is not known."""

    label: str
    colour: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True)
class Band:
    """One panel; `level` is a line that curves are measured by, and `limits` are where its axis ends at the latest."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curves]
    level: float | None = None
    limits: tuple[float, float] | None = None
    stacks: Sequence[Stack] = field(default_factory=list)


def draw_panels(panels: Sequence[Band], *, width: Width, same_height: bool = False) -> "Figure":
    """The panels in a grid, with one legend; those of the same height have one vertical axis."""

    def drawn(axes: Any, panel: Band) -> None:
        _draw(axes, panel)
        _limit(axes, panels if same_height else [panel])

    return panel_figures.draw_panels(
        panels, drawn, lambda: _handles(panels), width=width, height=_HEIGHT, sharey=same_height
    )


def _handles(panels: Sequence[Band]) -> list[tuple[Any, str]]:
    from matplotlib.patches import Patch

    handles: dict[str, Any] = {}
    for panel in panels:
        for stack in panel.stacks:
            handles.setdefault(stack.label, Patch(color=stack.colour, linewidth=0))
        for curve in panel.curves:
            if curve.label not in handles:
                ((handle, _),) = panel_figures.line_handles([(curve.label, curve.colour, curve.dashes, 1.3)])
                handles[curve.label] = handle
    return [(handle, label) for label, handle in handles.items()] if len(handles) > 1 else []


def _draw(axes: Any, panel: Band) -> None:
    if panel.stacks:
        x = np.array(panel.stacks[0].x)
        parts = np.array([[np.nan if value is None else max(value, 0.0) for value in one.y] for one in panel.stacks])
        known = np.isfinite(parts).all(axis=0)
        axes.stackplot(x[known], parts[:, known], colors=[one.colour for one in panel.stacks], linewidth=0)
    if panel.level is not None:
        axes.axhline(panel.level, color="#666666", linewidth=0.7, zorder=1)
    for curve in panel.curves:
        marker = "o" if len(curve.x) < 20 else None
        axes.plot(
            curve.x, curve.y, color=curve.colour, linestyle=curve.dashes, linewidth=1.2, marker=marker, markersize=2.2,
            zorder=3,
        )  # fmt: skip
        axes.fill_between(curve.x, curve.low, curve.high, color=curve.colour, alpha=_SHADE, linewidth=0, zorder=2)
    for axis in (axes.xaxis, axes.yaxis):
        number_axis(axis)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    finish_panel(axes)


def _limit(axes: Any, panels: Sequence[Band]) -> None:
    """Limit the axis by the curves' own values, and half as much again for intervals that are far wider."""
    values = [value for panel in panels for curve in panel.curves for value in curve.y]
    values += [panel.level for panel in panels if panel.level is not None]
    ends = [value for panel in panels for curve in panel.curves for value in (*curve.low, *curve.high)]
    low, high = min(values), max(values)
    room = 0.5 * (high - low) or 0.05 * abs(high) or 0.05
    low, high = max(min([low, *ends]), low - room), min(max([high, *ends]), high + room)
    if panels[0].limits is not None:
        low, high = max(low, panels[0].limits[0]), min(high, panels[0].limits[1])
    room = 0.05 * (high - low)
    axes.set_ylim(0 if panels[0].stacks else low - room, high + room)


def draw_rows(rows: Sequence[tuple[str, Any]], *, width: Width) -> "Figure":
    """Rows of images, float [N, C, H, W] in [-1, 1], with a name left of each; nothing is drawn in the gaps."""
    from matplotlib.figure import Figure

    count = min(_COLUMNS, *(len(images) for _, images in rows))
    beside = _LETTER * max(len(name) for name, _ in rows) + 0.1
    side = min(_TILE, (WIDTHS[width] - beside) / count)
    tall = side * rows[0][1].shape[2] / rows[0][1].shape[3]
    total = beside + count * side
    with study_style():
        figure = Figure(figsize=(total, len(rows) * tall))
        for number, (name, images) in enumerate(rows):
            bottom = 1 - (number + 1) / len(rows)
            middle = bottom + 0.5 / len(rows)
            figure.text((beside - 0.06) / total, middle, name, ha="right", va="center", fontsize=7)
            axes = figure.add_axes((beside / total, bottom, count * side / total, 0.95 / len(rows)))
            axes.imshow(_strip(images[:count]), interpolation="none", aspect="auto")
            axes.axis("off")
        return figure


def _strip(images: Any) -> Any:
    """Images [N, C, H, W] in [-1, 1], cut at black and white, side by side: uint8 [H, W', 4], clear between them."""
    shown = np.clip((np.asarray(images, dtype=np.float64) + 1) * 127.5, 0, 255).round().astype(np.uint8)
    shown = shown.repeat(3, axis=1) if shown.shape[1] == 1 else shown[:, :3]
    count, _, height, wide = shown.shape
    gap = max(1, round(wide / 24))
    strip = np.zeros((height, count * (wide + gap), 4), dtype=np.uint8)
    for number, image in enumerate(shown):
        start = number * (wide + gap)
        strip[:, start : start + wide, :3] = image.transpose(1, 2, 0)
        strip[:, start : start + wide, 3] = 255
    return strip
