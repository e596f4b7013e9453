"""Figures of several panels: side by side in as many columns as a page holds, with one legend below them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from debiasctl.reporting.panels import panels_in
from debiasctl.reporting.study_pictures import draw_legend, legend_rows, study_style
from debiasctl.reporting.style import WIDTHS, Width

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL = 2.1  # inches, at least, of a panel
_LEGEND = 0.17  # inches of a row
Panel = TypeVar("Panel")
Handles = Sequence[tuple[Any, str]]


@dataclass(frozen=True)
class Height:
    """Inches of a row of panels, the factor by which one of fewer than three is taller, and inches of all the rest."""

    row: float
    few: float
    rest: float


def draw_panels(
    panels: Sequence[Panel],
    draw: Callable[[Any, Panel], None],
    handles: Callable[[], Handles],
    *,
    width: Width,
    height: Height,
    columns: int | None = None,
    **sharing: Any,
) -> "Figure":
    """Draw each panel into its axes, at most `columns` side by side; `sharing` is matplotlib's sharex and sharey."""
    from matplotlib.figure import Figure

    columns = min(max(1, int(WIDTHS[width] / _PANEL)), len(panels), columns or len(panels))
    rows = -(-len(panels) // columns)
    with study_style():
        legend = handles()
        tall = height.row * (height.few if columns < 3 else 1) * rows + height.rest
        figure = Figure(figsize=(WIDTHS[width], tall + _LEGEND * legend_rows(legend, width)), layout="constrained")
        for axes, panel in zip(panels_in(figure, len(panels), columns=columns, **sharing), panels, strict=True):
            draw(axes, panel)
        draw_legend(figure, legend, width)
        return figure


def line_handles(lines: Sequence[tuple[str, str, Any, float]]) -> list[tuple[Any, str]]:
    """A legend's lines: label, colour, dashes and width of each."""
    from matplotlib.lines import Line2D

    return [
        (Line2D([], [], color=colour, linestyle=dashes, linewidth=width), label)
        for label, colour, dashes, width in lines
    ]
