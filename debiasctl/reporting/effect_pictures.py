"""Pictures of verdicts and of single figures: a forest plot of differences, and every seed as a dot."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from debiasctl.reporting.names import short_names
from debiasctl.reporting.panels import number_axis, number_text, panels_in
from debiasctl.reporting.study_data import ArmStyle, Dots, Effect, mean_of
from debiasctl.reporting.study_pictures import arm_handles, draw_legend, legend_rows, study_style
from debiasctl.reporting.style import WIDTHS, Width, finish_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONCLUSIVE = ("better", "worse", "equivalent")
_GAP = 0.5  # rows between the metrics of a forest plot
_ROW_INCHES = 0.15
_MOST = 400.0  # percent, beyond which no axis reaches
_QUANTILE = 0.8  # of the intervals' ends, to which the axis reaches at least
_SHADE, _QUIET = "#dddddd", "#666666"


def forest_limit(effects: Sequence[Effect]) -> float:
    """How far the axis reaches on both sides, in percent: an interval far wider than most is cut, the primary's not."""
    ends = sorted(abs(end) for one in effects for end in _ends(one))
    least = 2.2 * max((one.margin for one in effects if one.margin is not None), default=5.0)
    if not ends:
        return least
    primary = [abs(end) for one in effects if one.primary for end in _ends(one)]
    wanted = max(least, 1.15 * ends[int(_QUANTILE * (len(ends) - 1))], 1.08 * max(primary, default=0.0))
    return min(wanted, 1.08 * max(least, ends[-1]), _MOST)


def _ends(one: Effect) -> list[float]:
    return [end for end in (one.value, one.low, one.high) if end is not None and math.isfinite(end)]


def draw_forest(effects: Sequence[Effect], arms: Sequence[ArmStyle], *, reference: str, width: Width) -> "Figure":
    """Each arm's difference from the reference in each metric with its 95 % interval, and the verdict at the right.

    Better lies to the right in every metric. The margin of equivalence is shaded; a filled mark has a verdict, an empty
    one none; the primary metric is bold. What the axis does not hold ends in an arrow.
    """
    from matplotlib.figure import Figure

    blocks = {metric: [one for one in effects if one.metric == metric] for metric in (one.metric for one in effects)}
    present = [arm for arm in arms if any(one.arm == arm.name for one in effects)]
    order = {arm.name: number for number, arm in enumerate(present)}
    above = 1.0 if width == "column" else 0.0  # rows for a metric's name, which stands beside its rows on a page
    rows = len(effects) + (_GAP + above) * len(blocks)
    limit = forest_limit(effects)
    with study_style():
        handles = arm_handles(present, dots=True) if len(present) > 1 else []
        height = rows * _ROW_INCHES + (0.67 if above else 0.55) + 0.17 * legend_rows(handles, width)
        figure = Figure(figsize=(WIDTHS[width], height), layout="constrained")
        axes = figure.subplots()
        labels = short_names(list(blocks), longest=44 if above else 34)
        places: list[float] = []
        y = 0.0
        for block in blocks.values():
            y += above
            places.append(y - 1 if above else y + (len(block) - 1) / 2)
            _shade(axes, block, top=y, limit=limit)
            for number, one in enumerate(sorted(block, key=lambda one: order[one.arm])):
                _draw_effect(axes, one, present[order[one.arm]], y=y + number, limit=limit)
            y += len(block) + _GAP
        axes.axvline(0, color=_QUIET, linewidth=0.7, zorder=1)
        axes.set_xlim(-limit, limit)
        axes.set_ylim(y - _GAP - 0.3, -0.7)
        _name_blocks(axes, labels, places, [any(one.primary for one in block) for block in blocks.values()], above)
        _percent(axes)
        axes.set_xlabel(_against(present, reference, longest=16 if above else 32, between=",\n" if above else ", "))
        finish_panel(axes)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
        draw_legend(figure, handles, width)
        _give_rows_room(figure, axes)
        return figure


def _against(arms: Sequence[ArmStyle], reference: str, *, longest: int, between: str) -> str:
    """What the axis shows; an arm that is alone is named here, as there is no legend then."""
    (name,) = short_names([reference], longest=longest)
    only = f" of {short_names([arms[0].label], longest=longest)[0]}" if len(arms) == 1 else ""
    figure = "% of the latter's figure" if only else "% of its figure"
    return f"← worse\u2003\u2003better →\ndifference{only}{between[-1] if only else ' '}from {name}{between}{figure}"


def _give_rows_room(figure: "Figure", axes: Any) -> None:
    """Make the picture as high as its rows need beside what the axis, the names and the legend take of it."""
    figure.draw_without_rendering()  # which lays it out
    bottom, top = axes.get_ylim()
    height = figure.get_figheight()
    figure.set_figheight(height + (bottom - top) * _ROW_INCHES - axes.get_position().height * height)


def _name_blocks(
    axes: Any, labels: Sequence[str], places: Sequence[float], strong: Sequence[bool], above: float
) -> None:
    """Write each metric's name above its rows, or beside them; the primary's in bold."""
    axes.tick_params(axis="y", length=0)
    axes.set_yticks([] if above else places, labels=[] if above else labels)
    for text, bold in zip(axes.get_yticklabels(), strong, strict=False):
        text.set_fontweight("bold" if bold else "normal")
    for label, y, bold in zip(labels, places, strong, strict=True) if above else ():
        axes.annotate(
            label, (0.0, y), xycoords=("axes fraction", "data"), va="center", fontweight="bold" if bold else "normal"
        )  # fmt: skip


def _shade(axes: Any, block: Sequence[Effect], *, top: float, limit: float) -> None:
    """Shade the margin of equivalence behind a metric's rows."""
    margin = next((one.margin for one in block if one.margin is not None), None)
    if margin is not None:
        half = min(margin, limit)
        axes.fill_betweenx([top - 0.5, top + len(block) - 0.5], -half, half, color=_SHADE, linewidth=0, zorder=0)


def _draw_effect(axes: Any, one: Effect, arm: ArmStyle, *, y: float, limit: float) -> None:
    weight = "bold" if one.primary else "normal"
    axes.annotate(
        one.word, (1.0, y), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
        va="center", fontsize=7, fontweight=weight, annotation_clip=False,
    )  # fmt: skip
    if one.value is None or not math.isfinite(one.value):
        return
    thick = 1.8 if one.primary else 1.1
    if one.low is not None and one.high is not None:
        low, high = max(one.low, -limit), min(one.high, limit)
        if low < high:
            axes.plot([low, high], [y, y], color=arm.colour, linewidth=thick, zorder=2, solid_capstyle="butt")
        for end, edge, mark in ((one.low, -limit, "<"), (one.high, limit, ">")):
            if abs(end) > limit and end * edge > 0:
                axes.plot([edge * 0.99], [y], marker=mark, markersize=3.5, color=arm.colour, zorder=3, clip_on=False)
    if abs(one.value) <= limit:
        face = arm.colour if one.word in CONCLUSIVE else "#ffffff"
        axes.plot(
            [one.value], [y], marker=arm.marker, markersize=4.4 if one.primary else 3.6, color=arm.colour,
            markerfacecolor=face, markeredgewidth=0.9, zorder=4,
        )  # fmt: skip


def _percent(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(7, symmetric=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: ("+" if value > 0 else "") + number_text(value)))


def draw_dots(dots: Sequence[Dots], arms: Sequence[ArmStyle], *, width: Width) -> "Figure":
    """Every seed's figure as a dot, in a column a group, with each arm's mean and its 95 % interval beside them."""
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(one.panel for one in dots))
    present = [arm for arm in arms if any(one.arm == arm.name for one in dots)]
    columns = min(len(panels), 2 if width == "page" else 1)
    rows = -(-len(panels) // columns)
    with study_style():
        handles = arm_handles(present, dots=True)
        figure = Figure(
            figsize=(WIDTHS[width], 2.0 * rows + 0.17 * legend_rows(handles, width)), layout="constrained"
        )  # fmt: skip
        for axes, panel in zip(panels_in(figure, len(panels), columns=columns), panels, strict=True):
            groups = list(dict.fromkeys(one.group for one in dots if one.panel == panel))
            axes.axhline(0, color=_QUIET, linewidth=0.7, zorder=1)
            values: list[float] = []
            for one in (one for one in dots if one.panel == panel):
                number = [arm.name for arm in present].index(one.arm)
                x = groups.index(one.group) + 0.8 * ((number + 0.5) / len(present) - 0.5)
                values += _draw_dots(axes, one, present[number], x=x, step=0.8 / len(present))
            lowest, highest = min([*values, 0.0]), max([*values, 0.0])
            room = (highest - lowest) or 1.0
            low, high = axes.get_ylim()  # which hold the intervals
            axes.set_ylim(
                min(max(low, lowest - 0.35 * room), lowest - 0.08 * room),
                max(min(high, highest + 0.35 * room), highest + 0.08 * room),
            )
            axes.set_xticks(range(len(groups)), labels=groups)
            axes.tick_params(axis="x", length=0)
            axes.set_xlim(-0.5, len(groups) - 0.5)
            number_axis(axes.yaxis)
            axes.set_title(panel, loc="left")
            finish_panel(axes)
            axes.grid(False, axis="x")
        draw_legend(figure, handles, width)
        return figure


def _draw_dots(axes: Any, one: Dots, arm: ArmStyle, *, x: float, step: float) -> list[float]:
    """Draw an arm's dots, its mean and its interval; returns the values that the axis must hold."""
    values = [value for value in one.values if math.isfinite(value)]
    if not values:
        return []
    axes.plot(
        [x - 0.12 * step] * len(values), values, color=arm.colour, marker=arm.marker, markersize=2.8, linestyle="none",
        alpha=0.75, markeredgewidth=0, zorder=3,
    )  # fmt: skip
    mean = mean_of(values)
    right = x + 0.17 * step
    if mean.low is not None and mean.high is not None:
        axes.plot([right, right], [mean.low, mean.high], color=arm.colour, linewidth=1.0, zorder=2)
    axes.plot([right], [mean.value], color=arm.colour, marker="_", markersize=6, markeredgewidth=1.6, zorder=4)
    return values
