"""Curves with their intervals as bands, in panels with one legend; several seeds of an arm as a mean with its band."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.reporting.panel_figures import Height, draw_panels, line_handles
from debiasctl.reporting.panels import log_axis, number_axis
from debiasctl.reporting.study_data import mean_of
from debiasctl.reporting.style import Width, finish_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HEIGHT = Height(1.7, 1.15, 0.1)
_WIDE = 25  # times the median width of an interval, beyond which one does not stretch the axis
_FEW = 14  # points that are marked as such
_QUIET = "#666666"
Values = Sequence[float | None]


@dataclass(frozen=True)
class CurveStyle:
    """A line's name in the legend, its colour and its dashes."""

    label: str
    colour: str
    dashes: Any = "-"


@dataclass(frozen=True)
class IntervalCurve:
    """A line of the style number `style`, with the limits of each value where there are any."""

    style: int
    x: Sequence[float]
    y: Values
    low: Values | None = None
    high: Values | None = None


@dataclass(frozen=True)
class CurvePanel:
    """A panel of curves about 0; `squares` are figures that cannot be below it."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[IntervalCurve]
    x_log: bool = False
    squares: bool = False


def draw_interval_curves(
    panels: Sequence[CurvePanel], styles: Sequence[CurveStyle], *, width: Width, columns: int = 3
) -> "Figure":
    """Draw panels side by side, in as many columns as the page holds; curves of one style in a panel are its seeds."""
    used = [styles[one] for one in sorted({curve.style for panel in panels for curve in panel.curves})]
    lines = [(style.label, style.colour, style.dashes, 1.3) for style in used] if len(used) > 1 else []
    return draw_panels(
        panels, lambda axes, panel: _draw(axes, panel, styles), lambda: line_handles(lines), width=width,
        height=_HEIGHT, columns=columns,
    )  # fmt: skip


def merged(curves: Sequence[IntervalCurve]) -> IntervalCurve:
    """The curve of an arm: its only seed's, or the mean over seeds with its 95 % t interval over them."""
    if len(curves) == 1:
        return curves[0]
    points: dict[float, list[float]] = {}
    for curve in curves:
        for x, y in zip(curve.x, curve.y, strict=True):
            if y is not None:
                points.setdefault(x, []).append(y)
    means = [mean_of(points[x], x=x) for x in sorted(points)]
    return IntervalCurve(
        curves[0].style, [one.x for one in means], [one.value for one in means], [one.low for one in means],
        [one.high for one in means],
    )  # fmt: skip


def _draw(axes: Any, panel: CurvePanel, styles: Sequence[CurveStyle]) -> None:
    axes.axhline(0, color=_QUIET, linewidth=0.7, zorder=1)
    drawn = []
    for number in sorted({curve.style for curve in panel.curves}):
        seeds = [curve for curve in panel.curves if curve.style == number]
        style = styles[number]
        for seed in seeds if len(seeds) > 1 else []:
            axes.plot(seed.x, _plain(seed.y), color=style.colour, linewidth=0.4, alpha=0.55, zorder=2)
        curve = merged(seeds)
        drawn.append(curve)
        axes.plot(
            curve.x, _plain(curve.y), color=style.colour, linestyle=style.dashes, linewidth=1.2, zorder=3 + number / 99,
            marker="o" if len(curve.x) < _FEW else None, markersize=2.4,
        )  # fmt: skip
        if curve.low is not None and curve.high is not None:
            axes.fill_between(
                curve.x, _plain(curve.low), _plain(curve.high), color=style.colour, alpha=0.22, linewidth=0, zorder=1.5
            )
    _limit(axes, drawn, squares=panel.squares)
    _ticks(axes, panel)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    finish_panel(axes)


def _plain(values: Values) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _limit(axes: Any, curves: Sequence[IntervalCurve], *, squares: bool) -> None:
    """Limit the axis to what is known well: a few figures with intervals far wider than the others are cut."""
    points: list[tuple[float, float]] = []
    for curve in curves:
        ends = zip(curve.y, curve.low or curve.y, curve.high or curve.y, strict=True)
        points += [(y if a is None else a, y if b is None else b) for y, a, b in ends if y is not None]
    if not points:
        return
    usual = statistics.median(end - start for start, end in points)
    known = [(start, end) for start, end in points if end - start <= _WIDE * usual or len(points) < _FEW]
    low, high = min(0.0, *(start for start, _ in known)), max(0.0, *(end for _, end in known))
    room = 0.06 * (high - low) or 0.05
    axes.set_ylim(0.0 if squares else low - room, high + room)


def _ticks(axes: Any, panel: CurvePanel) -> None:
    if panel.x_log:
        log_axis(axes, [x for curve in panel.curves for x in curve.x])
    else:
        number_axis(axes.xaxis)
    number_axis(axes.yaxis)


def curves_data(panels: Sequence[CurvePanel], styles: Sequence[CurveStyle]) -> list[dict[str, Any]]:
    """What `draw_interval_curves` draws, as JSON."""
    return [
        {
            "title": panel.title,
            "x": panel.x_label,
            "y": panel.y_label,
            "curves": [
                {
                    "name": styles[curve.style].label, "x": list(curve.x), "y": list(curve.y),
                    **({} if curve.low is None or curve.high is None else
                       {"low": list(curve.low), "high": list(curve.high)}),
                }
                for curve in panel.curves
            ],
        }
        for panel in panels
    ]  # fmt: skip
