"""Bars with their intervals, from 0 to the left or to the right, in panels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.reporting.panels import number_axis, panels_in
from debiasctl.reporting.study_data import Bounded, mean_of
from debiasctl.reporting.study_pictures import study_style
from debiasctl.reporting.style import COLOURS, WIDTHS, Width, finish_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW_INCHES, _REST = 0.17, 0.62
_LINE = "#333333"


@dataclass(frozen=True)
class BarPanel:
    """A panel: the figures of each row, one a seed."""

    title: str
    rows: Mapping[str, Sequence[Bounded]]


def of_seeds(bars: Sequence[Bounded]) -> Bounded:
    """The only seed's bar, or the mean over seeds with its 95 % t interval over them."""
    if len(bars) == 1:
        return bars[0]
    mean = mean_of([bar.value for bar in bars])
    return Bounded(mean.value, mean.low, mean.high)


def draw_interval_bars(panels: Sequence[BarPanel], *, width: Width) -> "Figure":
    """Draw the panels, two side by side on a page; single seeds are dots on the bars."""
    from matplotlib.figure import Figure

    columns = min(2 if width == "page" else 1, len(panels))
    lines = -(-len(panels) // columns)
    most = max((len(panel.rows) for panel in panels), default=1)
    with study_style():
        figure = Figure(figsize=(WIDTHS[width], lines * (most * _ROW_INCHES + _REST)), layout="constrained")
        for axes, panel in zip(panels_in(figure, len(panels), columns=columns), panels, strict=True):
            _draw(axes, panel)
        return figure


def _draw(axes: Any, panel: BarPanel) -> None:
    for y, bars in enumerate(panel.rows.values()):
        bar = of_seeds(bars)
        axes.barh(y, bar.value, height=0.68, color=COLOURS[0], alpha=0.55, linewidth=0, zorder=2)
        if bar.low is not None and bar.high is not None:
            axes.plot([bar.low, bar.high], [y, y], color=_LINE, linewidth=1.1, zorder=3, solid_capstyle="butt")
        if len(bars) > 1:
            axes.plot([one.value for one in bars], [y] * len(bars), color=_LINE, marker="o", markersize=2,
                      linestyle="none", zorder=4)  # fmt: skip
    axes.axvline(0, color=_LINE, linewidth=0.7, zorder=1)
    axes.set_yticks(range(len(panel.rows)), labels=list(panel.rows))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    number_axis(axes.xaxis)
    axes.set_title(panel.title, loc="left")
    finish_panel(axes)
    axes.grid(False, axis="y")


def bars_data(panels: Sequence[BarPanel]) -> list[dict[str, Any]]:
    """What `draw_interval_bars` draws, as JSON."""
    return [
        {
            "title": panel.title,
            "rows": [
                {"name": name, "value": bar.value, "low": bar.low, "high": bar.high, "seeds": [b.value for b in bars]}
                for name, bars in panel.rows.items()
                for bar in [of_seeds(bars)]
            ],
        }
        for panel in panels
    ]
