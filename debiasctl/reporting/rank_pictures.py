"""Pictures of rank correlations: rows of marks with intervals, and scatter plots of what is ranked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from debiasctl.reporting.panels import number_axis, panels_in
from debiasctl.reporting.study_data import ArmStyle
from debiasctl.reporting.study_pictures import arm_handles, draw_legend, legend_rows, study_style
from debiasctl.reporting.style import WIDTHS, Width, finish_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW = 0.13  # inches


@dataclass(frozen=True)
class Mark:
    """A figure between -1 and 1 with its interval, in the row `name`; a `group` has one colour."""

    group: str
    name: str
    colour: str
    value: float
    low: float | None
    high: float | None


def draw_marks(marks: Sequence[Mark], *, x_label: str, width: Width) -> "Figure":
    """Draw a row a name, with the groups' marks below one another; the highest of the first group is at the top."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    groups = list(dict.fromkeys(one.group for one in marks))
    first = {one.name: one.value for one in marks if one.group == groups[0]}
    names = sorted(dict.fromkeys(one.name for one in marks), key=lambda name: -first.get(name, -2.0))
    colours = {one.group: one.colour for one in marks}
    handles = [(Line2D([], [], color=colours[group], marker="o", markersize=3), group) for group in groups]
    with study_style():
        height = len(names) * (_ROW * len(groups) + 0.08) + 0.55 + 0.17 * legend_rows(handles, width)
        figure = Figure(figsize=(min(WIDTHS[width], 5.0), height), layout="constrained")
        axes = figure.subplots()
        for one in marks:
            y = names.index(one.name) + 0.7 * ((groups.index(one.group) + 0.5) / len(groups) - 0.5)
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [y, y], color=one.colour, linewidth=1.1)
            axes.plot([one.value], [y], color=one.colour, marker="o", markersize=3.2)
        axes.axvline(0, color="#666666", linewidth=0.7, zorder=1)
        axes.set_yticks(range(len(names)), labels=names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(-1.03, 1.03)
        axes.set_xlabel(x_label)
        finish_panel(axes)
        axes.grid(False, axis="y")
        draw_legend(figure, handles, width)
        return figure


@dataclass(frozen=True)
class Cloud:
    """A scatter plot: points, and the arm of each."""

    title: str
    x_label: str
    x: Sequence[float]
    y: Sequence[float]
    arms: Sequence[ArmStyle]


def draw_clouds(clouds: Sequence[Cloud], *, y_label: str, width: Width) -> "Figure":
    """Draw scatter plots side by side, or below one another in a column, with one legend."""
    from matplotlib.figure import Figure

    columns = len(clouds) if width == "page" else 1
    rows = -(-len(clouds) // columns)
    arms = list(dict.fromkeys(arm for one in clouds for arm in one.arms))
    handles = arm_handles(arms, dots=True)
    with study_style():
        figure = Figure(
            figsize=(WIDTHS[width], 2.2 * rows + 0.17 * legend_rows(handles, width)), layout="constrained"
        )  # fmt: skip
        for axes, one in zip(panels_in(figure, len(clouds), columns=columns), clouds, strict=True):
            for arm in dict.fromkeys(one.arms):
                own = [number for number, other in enumerate(one.arms) if other == arm]
                axes.scatter([one.x[k] for k in own], [one.y[k] for k in own],
                             color=arm.colour, marker=arm.marker, s=9, alpha=0.8, linewidths=0)  # fmt: skip
            axes.set_title(one.title, loc="left")
            axes.set_xlabel(one.x_label)
            axes.set_ylabel(y_label)
            for axis in (axes.xaxis, axes.yaxis):
                number_axis(axis, most=4)
            finish_panel(axes)
        draw_legend(figure, handles, width)
        return figure
