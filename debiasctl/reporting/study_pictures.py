"""Pictures of a study's arms: curves with bands over seeds, in one style and with one legend."""

import math
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl.reporting.panels import log_axis, number_axis, number_text, panels_in
from debiasctl.reporting.study_data import ArmStyle, Panel, means_of
from debiasctl.reporting.style import WIDTHS, Width, figure_svg, finish_panel, plot_style, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAND = (
    "Thin lines are single training seeds; a thick line is their mean, and its band the mean's 95 % t interval over "
    "seeds"
)
_PANEL, _HEIGHT = 2.1, 1.7  # inches
_BAND_ALPHA = 0.5  # of all bands together: where they overlap, they must not hide the lines
_REACH = 0.35  # how far beyond the seeds' own values a band may stretch an axis, relative to their range
_FLAT = 1e-9
_LETTER = 0.062  # inches, of a letter of 7 points, on average
_QUIET = "#666666"


@contextmanager
def study_style() -> Iterator[None]:
    """The style of plots, in which names of runs are no formulas; a letter that a font lacks is no warning."""
    from matplotlib import rc_context

    with plot_style(), rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def svg_of(figure: "Figure") -> str:
    """The figure as SVG."""
    with study_style():
        return figure_svg(figure)


def save_study_figure(path: Path, figure: "Figure") -> None:
    """Write the figure in the format of the path's ending."""
    with study_style():
        save_figure(path, figure)


def draw_curves(panels: Sequence[Panel], arms: Sequence[ArmStyle], *, width: Width, num_columns: int = 3) -> "Figure":
    """One panel a metric: every seed thin, each arm's mean with its band, in the arm's colour, with one legend."""
    from matplotlib.figure import Figure

    columns = min(max(1, int(WIDTHS[width] / _PANEL)), len(panels), num_columns)
    rows = -(-len(panels) // columns)
    height = _HEIGHT * rows * (1.25 if columns < 3 else 1) + 0.2
    present = [arm for arm in arms if any(line.arm == arm.name for panel in panels for line in panel.lines)]
    with study_style():
        handles = arm_handles(present, panels)
        figure = Figure(figsize=(WIDTHS[width], height + 0.17 * legend_rows(handles, width)), layout="constrained")
        for axes, panel in zip(panels_in(figure, len(panels), columns=columns), panels, strict=True):
            _draw_panel(axes, panel, present)
        draw_legend(figure, handles, width)
        return figure


def _draw_panel(axes: Any, panel: Panel, arms: Sequence[ArmStyle]) -> None:
    if panel.y_log:
        axes.set_yscale("log")
    values: list[float] = []
    ends: list[float] = []
    for number, arm in enumerate(arms):
        means = means_of(panel, arm.name)
        lines = [line for line in panel.lines if line.arm == arm.name]
        if not means:
            continue
        several = len(lines) > 1
        for line in lines if several else []:
            axes.plot(line.x, line.y, color=arm.colour, linewidth=0.4, alpha=0.55, zorder=2 + number / 100)
        values += [y for line in lines for y in line.y if math.isfinite(y) and (y > 0 or not panel.y_log)]
        x = [mean.x for mean in means]
        axes.plot(
            x, [mean.value for mean in means], color=arm.colour, linestyle=arm.dashes, linewidth=1.3, zorder=3,
            marker="o" if len(x) < 12 else None, markersize=2.4,
        )  # fmt: skip
        banded = [mean for mean in means if mean.low is not None and mean.high is not None]
        if banded:
            low, high = [mean.low for mean in banded], [mean.high for mean in banded]
            axes.fill_between(
                [mean.x for mean in banded],
                low,
                high,
                color=arm.colour,
                alpha=_BAND_ALPHA / (1 + len(arms)),
                linewidth=0,
                zorder=1,
            )
            ends += [float(end) for end in (*low, *high) if end is not None]
    if panel.level is not None:
        axes.axhline(panel.level, color=_QUIET, linestyle=":", linewidth=1.0, zorder=1.5)
        values.append(panel.level)
    _limit(axes, values, ends, log=panel.y_log)
    _ticks(axes, panel)
    axes.set_title("\n".join(_wrapped(panel.title, 34)), loc="left", fontweight="bold" if panel.strong else "normal")
    axes.set_xlabel(panel.x_label)
    axes.set_ylabel(panel.y_label)
    finish_panel(axes)


def _limit(axes: Any, values: Sequence[float], ends: Sequence[float], *, log: bool) -> None:
    """Limit an axis to the seeds' own values and a part of the bands: those of two seeds are wider than all else."""
    drawn = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not drawn:
        return
    low, high = min(drawn), max(drawn)
    if high - low <= _FLAT * max(abs(low), abs(high)):  # an axis of nothing but rounding
        room = 0.05 * abs(high) or 0.05
        axes.set_ylim(low - room, high + room)
        return
    inside = [end for end in ends if end > 0 or not log]
    if log:
        low, high, inside = math.log(low), math.log(high), [math.log(end) for end in inside]
    reach = (high - low) * _REACH
    low, high = (
        max(min([low, *inside]), low - reach) - reach / 6,
        min(max([high, *inside]), high + reach) + reach / 6,
    )
    axes.set_ylim(*((math.exp(low), math.exp(high)) if log else (low, high)))


def _ticks(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if panel.x_log:
        log_axis(axes, [x for line in panel.lines for x in line.x if x > 0])
    else:
        number_axis(axes.xaxis, most=4)
    if panel.y_log:
        low, high = axes.get_ylim()
        decades = math.log10(high / low)
        if decades < 0.9:  # too few powers of ten to read anything from
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if decades < 1.6 else (1.0,), numticks=7))
            axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))
    else:
        number_axis(axes.yaxis)
    if panel.x_falls:
        axes.invert_xaxis()


def arm_handles(arms: Sequence[ArmStyle], panels: Sequence[Panel] = (), *, dots: bool = False) -> list[tuple[Any, str]]:
    """The legend's lines, or dots, and words: arms with their number of seeds, and the panels' level."""
    from matplotlib.lines import Line2D

    found = []
    for arm in arms:
        counts = {len([line for line in panel.lines if line.arm == arm.name]) for panel in panels} - {0}
        seeds = f" (n = {max(counts)})" if max(counts, default=0) > 1 else ""
        drawn = {"marker": arm.marker, "markersize": 3.6, "linestyle": "none"} if dots else {"linestyle": arm.dashes}
        handle = Line2D([], [], color=arm.colour, linewidth=1.3, **drawn)
        found.append((handle, f"{arm.label}{seeds}"))
    level = next((panel.level_label for panel in panels if panel.level is not None), "")
    if level:
        found.append((Line2D([], [], color=_QUIET, linestyle=":", linewidth=1.0), level))
    return found


def _legend_columns(handles: Sequence[tuple[Any, str]], width: Width) -> int:
    longest = max((len(label) for _, label in handles), default=1)
    return max(1, min(len(handles), int(WIDTHS[width] / (0.55 + _LETTER * longest))))


def legend_rows(handles: Sequence[tuple[Any, str]], width: Width) -> int:
    """How many rows the legend below a figure of this width takes."""
    return -(-len(handles) // _legend_columns(handles, width)) if handles else 0


def draw_legend(figure: Any, handles: Sequence[tuple[Any, str]], width: Width) -> None:
    """Add one legend below all panels."""
    if handles:
        figure.legend(
            [handle for handle, _ in handles], [label for _, label in handles], loc="outside lower center",
            ncols=_legend_columns(handles, width), frameon=False,
        )  # fmt: skip


def _wrapped(text: str, letters: int) -> list[str]:
    return textwrap.wrap(text, letters, max_lines=2, placeholder=" …") or [""]
