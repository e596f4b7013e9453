"""Plots of figures against the number of function evaluations or the images seen in training."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debiasctl.errors import UsageError
from debiasctl.evaluation.metrics.catalogue import ZERO
from debiasctl.evaluation.record import EvaluationRecord, MetricFigure
from debiasctl.files import check_file
from debiasctl.reporting.style import COLOURS, FORMATS, finish_panel, save_figure

_COLUMNS = 3
_TITLE, _LETTERS = 52, 68  # letters of the title and of a description that fit the width of one panel
_WIDE = 10  # the axis is logarithmic if its largest value is more than this many times its smallest
_TICKS = 12  # the most ticks on an axis
_SPREAD = 0.018  # the distance between intervals at one place, relative to the axis' length
_CORRECTED, _REAL = "corrected, 95 %", "real images (floor)"


@dataclass(frozen=True)
class _Point:
    """A figure and its position along the axis; `steps` is given if each number of steps has its own curve."""

    x: int
    steps: int | None
    figure: MetricFigure


def check_plot(path: Path, *, num_points: int) -> None:
    """Check before any work that a plot can be drawn and written.

    Raises:
        UsageError: if the ending is neither .png nor .svg, or there would be only one point.
        DebiasctlError: if it cannot be written there.
    """
    check_file(path, argument="plot", endings=FORMATS)
    if num_points < 2:
        raise UsageError("`plot` draws curves: give several `steps`, for example 5,10,20, or several `checkpoints`")


def plot_curves(path: Path, records: Sequence[EvaluationRecord]) -> None:
    """Plot one panel per metric, with its floor and, if available, the intervals of the corrected figures.

    With several checkpoints the horizontal axis is the images seen in training, with a curve for each number of steps;
    otherwise it is the network's forward passes per sample. If the floor has fewer images than were measured, the
    curve shows the figure for as many images as the floor.
    """
    from matplotlib.figure import Figure

    training = len({record.checkpoint for record in records}) > 1
    names = list(dict.fromkeys(name for record in records for name in record.metrics))
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.6 * rows + 0.8), dpi=130, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, name in zip(panels, names, strict=False):
        _draw_panel(panel, _points(records, name, training=training), name, ticks=not training)
        panel.set_xlabel("images seen in training" if training else "network evaluations per sample (NFE)")
    for panel in panels[len(names) :]:
        panel.remove()
    measured = records[0].measured
    sampler = str(measured.sampler).partition(":")[0]
    title = (
        f"run '{records[0].run}': {measured.num} images by {sampler} against {measured.dataset}, "
        f"in '{measured.features}' features"
    )
    figure.suptitle("\n".join(textwrap.wrap(title, _TITLE * columns)))
    _add_legend(figure, panels[: len(names)], columns=2 * columns)
    save_figure(path, figure)


def _points(records: Sequence[EvaluationRecord], name: str, *, training: bool) -> list[_Point]:
    """List the figures of one metric in their order along the axis."""
    points = []
    for record in records:
        x = record.images_seen if training else record.nfe
        assert x is not None, "curves are drawn for a run"
        if name in record.metrics:
            points.append(_Point(x, record.measured.steps if training else None, record.metrics[name]))
    return sorted(points, key=lambda point: point.x)


def _add_legend(figure: Any, panels: Sequence[Any], *, columns: int) -> None:
    """Add one legend for all panels, in which curves of several panels appear once."""
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, text in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(text, handle)
    order = sorted(found, key=lambda text: text.startswith((_CORRECTED, _REAL)))
    figure.legend([found[text] for text in order], order, loc="outside lower center", ncols=columns, frameon=False)


def _draw_panel(panel: Any, points: Sequence[_Point], name: str, *, ticks: bool) -> None:
    """Draw the curves of one metric, its floor, and a line at 0 if closer to 0 is better."""
    first = points[0].figure
    if ticks:
        _ticks(panel, [point.x for point in points])
    if first.better == ZERO:
        panel.axhline(0, color="#BBBBBB", linewidth=1, zorder=1)
    kinds = sorted({point.steps for point in points}, key=lambda steps: steps or 0)
    for number, steps in enumerate(kinds):
        curve = [point for point in points if point.steps == steps]
        x, shown = [point.x for point in curve], [point.figure for point in curve]
        colour = COLOURS[number % len(COLOURS)]
        values = [figure.value_at_floor_num if _at_floor(figure) else figure.value for figure in shown]
        label = "the run's images" if steps is None else f"{steps} steps"
        panel.plot(x, values, color=colour, marker="o", markersize=4, linewidth=1.4, label=label)
        shift = _SPREAD * (number - (len(kinds) - 1) / 2 + (0 if len(kinds) > 1 else 0.5))
        _draw_intervals(panel, x, shown, colour=colour, shift=shift)
    floors = [point.figure.floor for point in points if point.figure.floor is not None]
    if floors:
        panel.axhline(floors[0], color="#666666", linestyle=":", linewidth=1.4, label=_REAL)
    panel.autoscale_view()
    description = textwrap.wrap(first.description, _LETTERS, break_on_hyphens=False)
    panel.set_title(name, fontweight="bold", loc="left", fontsize=11, pad=6 + 9.5 * len(description))
    panel.annotate(
        "\n".join(description), (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=7.5,
        color="#444444",
    )  # fmt: skip
    panel.set_ylabel(f"N {first.floor_num if _at_floor(first) else first.num}    better: {first.better}")
    finish_panel(panel)


def _draw_intervals(
    panel: Any, x: Sequence[int], figures: Sequence[MetricFigure], *, colour: str, shift: float
) -> None:
    """Draw corrected figures with their intervals, offset from the points by `shift` of the axis' length."""
    from matplotlib.transforms import ScaledTranslation

    known = [(at, one.interval, one.corrected) for at, one in zip(x, figures, strict=True) if one.interval is not None]
    if not known:
        return
    ends = [(interval.low, interval.high) for _, interval, _ in known]
    panel.update_datalim([(at, end) for (at, _, _), pair in zip(known, ends, strict=True) for end in pair])
    inches = panel.get_window_extent().width / panel.figure.dpi
    beside = panel.transData + ScaledTranslation(shift * inches, 0, panel.figure.dpi_scale_trans)
    panel.vlines([at for at, _, _ in known], *zip(*ends, strict=True), color=colour, linewidth=0.9, transform=beside)
    of_all = f" (of all {figures[0].num})" if any(map(_at_floor, figures)) else ""
    panel.plot(
        [at for at, _, _ in known], [corrected for _, _, corrected in known], color=colour, marker="_", markersize=5,
        linestyle="none", transform=beside,
    )  # fmt: skip
    panel.plot([], [], color="#444444", marker="|", markersize=10, linestyle="none", label=f"{_CORRECTED}{of_all}")


def _at_floor(figure: MetricFigure) -> bool:
    """Whether the figure has a floor with another number of images."""
    return figure.floor is not None and figure.floor_num != figure.num


def _ticks(panel: Any, numbers: Sequence[int]) -> None:
    """Set ticks at the measured numbers, leaving out those too close to others."""
    numbers = sorted(set(numbers))
    logarithmic = numbers[-1] > _WIDE * numbers[0]
    shown: list[int] = []
    for number in numbers:
        length = math.log(numbers[-1] / numbers[0]) if logarithmic else numbers[-1] - numbers[0]
        gap = 0.0 if not shown else math.log(number / shown[-1]) if logarithmic else number - shown[-1]
        if not shown or gap >= length / _TICKS:
            shown.append(number)
    if logarithmic:
        panel.set_xscale("log")
    panel.set_xticks(shown, labels=[str(number) for number in shown])
    panel.set_xticks([], minor=True)
