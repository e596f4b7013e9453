"""Plots of figures against the number of function evaluations or the images seen in training."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debiasctl.errors import UsageError
from debiasctl.evaluation.metrics.catalogue import ZERO
from debiasctl.evaluation.record import EvaluationRecord, MetricFigure
from debiasctl.files import check_file
from debiasctl.reporting.panels import panels_in
from debiasctl.reporting.style import (
    COLOURS,
    FORMATS,
    WIDTHS,
    Width,
    finish_panel,
    plot_style,
    save_figure,
    styles,
)

_PANEL = 2.2  # inches, at least
_HEIGHT = 1.75  # inches of a row of panels
_INCH = 14.5  # letters of a line of the title, an inch
_TICKS = 7  # the most ticks on an axis
_FLAT = 1e-9  # the height of data that is drawn as a level line
_SPREAD = 0.018  # the distance between intervals at one place, relative to the axis' length
_CORRECTED, _REAL = "corrected, 95 %", "real images (floor)"


@dataclass(frozen=True)
class _Point:
    """A figure, its position along the axis, and the curve that it belongs to."""

    x: int
    curve: str
    figure: MetricFigure


def check_plot(path: Path, *, num_points: int) -> None:
    """Check before any work that a plot can be drawn and written.

    Raises:
        UsageError: if the ending is none of FORMATS, or there would be only one point.
        DebiasctlError: if it cannot be written there.
    """
    check_file(path, argument="plot", endings=FORMATS)
    if num_points < 2:
        raise UsageError("`plot` draws curves: give several `steps`, for example 5,10,20, or several `checkpoints`")


def plot_curves(
    path: Path,
    records: Sequence[EvaluationRecord],
    *,
    weightings: Mapping[str, str] | None = None,
    width: Width = "page",
) -> None:
    """Plot one panel per metric, with its floor and, if available, the intervals of the corrected figures.

    With several checkpoints of a run the horizontal axis is the images seen in training, with a curve for each number
    of steps; otherwise it is the network's forward passes per sample, on a logarithmic scale. Several runs have a curve
    each, in the colour of their weighting; `weightings` gives its reference by the run's name. If the floor has fewer
    images than were measured, the curve shows the figure for as many images as the floor.
    """
    from matplotlib.figure import Figure

    training = _against_training(records)
    names = list(dict.fromkeys(name for record in records for name in record.metrics))
    columns = min(max(1, int(WIDTHS[width] / _PANEL)), len(names))
    rows = -(-len(names) // columns)
    with plot_style():
        figure = Figure(figsize=(WIDTHS[width], _HEIGHT * rows + 0.8), layout="constrained")
        panels = panels_in(figure, len(names), columns=columns)
        drawn = _styles(records, weightings or {}, training=training)
        for panel, name in zip(panels, names, strict=True):
            _draw_panel(panel, _points(records, name, training=training), name, drawn, ticks=not training)
            panel.set_xlabel("images seen in training" if training else "network evaluations (NFE)")
        figure.suptitle("\n".join(textwrap.wrap(_title(records), int(_INCH * WIDTHS[width]))))
        _add_legend(figure, panels, columns=max(1, int(WIDTHS[width] / 1.6)))
        save_figure(path, figure)


def _against_training(records: Sequence[EvaluationRecord]) -> bool:
    """Whether some run was measured at several checkpoints."""
    checkpoints: dict[str | None, set[int | None]] = {}
    for record in records:
        checkpoints.setdefault(record.run, set()).add(record.checkpoint)
    return any(len(steps) > 1 for steps in checkpoints.values())


def _title(records: Sequence[EvaluationRecord]) -> str:
    measured = records[0].measured
    runs = list(dict.fromkeys(str(record.run) for record in records))
    sampler = str(measured.sampler).partition(":")[0]
    of = f"run '{runs[0]}': " if len(runs) == 1 else ""
    guide = "" if measured.guide is None else f" guided by {measured.guide}"
    return (
        f"{of}{measured.num} images by {sampler}{guide} against {measured.dataset}, in '{measured.features}' features"
    )


def _curve(record: EvaluationRecord, records: Sequence[EvaluationRecord], *, training: bool) -> str:
    """The name of the curve that a record belongs to."""
    several = len({one.run for one in records}) > 1
    steps = training and (not several or len({one.measured.steps for one in records}) > 1)
    parts = [*([str(record.run)] if several else []), *([f"{record.measured.steps} steps"] if steps else [])]
    return ", ".join(parts) or "the run's images"


def _styles(
    records: Sequence[EvaluationRecord], weightings: Mapping[str, str], *, training: bool
) -> dict[str, tuple[str, Any]]:
    """The colour and line style of every curve: of its run's weighting where there are several runs."""
    curves = {_curve(record, records, training=training): record for record in records}
    if len({record.run for record in records}) == 1:
        ordered = sorted(curves, key=lambda name: curves[name].measured.steps or 0)
        return {name: (COLOURS[number % len(COLOURS)], "-") for number, name in enumerate(ordered)}
    schemes = [weightings.get(str(record.run), str(record.run)) for record in curves.values()]
    colours = [colour for colour, _ in styles(schemes)]
    dashes = [dash for _, dash in styles([f"constant:{name}" for name in curves])]  # one for each curve
    return {name: (colours[number], dashes[number]) for number, name in enumerate(curves)}


def _points(records: Sequence[EvaluationRecord], name: str, *, training: bool) -> list[_Point]:
    """List the figures of one metric in their order along the axis."""
    points = []
    for record in records:
        x = record.images_seen if training else record.nfe
        assert x is not None, "curves are drawn for a run"
        if name in record.metrics:
            points.append(_Point(x, _curve(record, records, training=training), record.metrics[name]))
    return sorted(points, key=lambda point: point.x)


def _add_legend(figure: Any, panels: Sequence[Any], *, columns: int) -> None:
    """Add one legend for all panels, in which curves of several panels appear once."""
    found: dict[str, Any] = {}
    for panel in panels:
        for handle, text in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(text, handle)
    order = sorted(found, key=lambda text: text.startswith((_CORRECTED, _REAL)))
    figure.legend([found[text] for text in order], order, loc="outside lower center", ncols=columns, frameon=False)


def _draw_panel(
    panel: Any, points: Sequence[_Point], name: str, drawn: Mapping[str, tuple[str, Any]], *, ticks: bool
) -> None:
    """Draw the curves of one metric, its floor, and a line at 0 if closer to 0 is better."""
    first = points[0].figure
    if ticks:
        _ticks(panel, [point.x for point in points])
    if first.better == ZERO:
        panel.axhline(0, color="#BBBBBB", linewidth=0.8, zorder=1)
    curves = [curve for curve in drawn if any(point.curve == curve for point in points)]
    for number, curve in enumerate(curves):
        own = [point for point in points if point.curve == curve]
        x, shown = [point.x for point in own], [point.figure for point in own]
        colour, dashes = drawn[curve]
        values = [figure.value_at_floor_num if _at_floor(figure) else figure.value for figure in shown]
        panel.plot(x, values, color=colour, linestyle=dashes, marker="o", markersize=2.5, linewidth=1.1, label=curve)
        shift = _SPREAD * (number - (len(curves) - 1) / 2 + (0 if len(curves) > 1 else 0.5))
        _draw_intervals(panel, x, shown, colour=colour, shift=shift)
    floors = [point.figure.floor for point in points if point.figure.floor is not None]
    if floors:
        panel.axhline(floors[0], color="#666666", linestyle=":", linewidth=1.1, label=_REAL)
    panel.autoscale_view()
    panel.set_title(name, fontweight="bold", loc="left")
    low, high = panel.dataLim.intervaly
    if high - low < _FLAT:  # an axis of nothing but rounding
        panel.set_ylim(low - 0.05, high + 0.05)
    aim = "0 is best" if first.better == ZERO else f"{first.better} is better"
    panel.set_ylabel(f"N {first.floor_num if _at_floor(first) else first.num}; {aim}")
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
    panel.vlines([at for at, _, _ in known], *zip(*ends, strict=True), color=colour, linewidth=0.8, transform=beside)
    of_all = f" (of all {figures[0].num})" if any(map(_at_floor, figures)) else ""
    panel.plot(
        [at for at, _, _ in known], [corrected for _, _, corrected in known], color=colour, marker="_", markersize=4,
        linestyle="none", transform=beside,
    )  # fmt: skip
    panel.plot([], [], color="#444444", marker="|", markersize=7, linestyle="none", label=f"{_CORRECTED}{of_all}")


def _at_floor(figure: MetricFigure) -> bool:
    """Whether the figure has a floor with another number of images."""
    return figure.floor is not None and figure.floor_num != figure.num


def _ticks(panel: Any, numbers: Sequence[int]) -> None:
    """Set a logarithmic axis with ticks at the measured numbers, leaving out those too close to others."""
    numbers = sorted(set(numbers))
    shown: list[int] = []
    for number in numbers:
        if not shown or math.log(number / shown[-1]) >= math.log(numbers[-1] / numbers[0]) / _TICKS:
            shown.append(number)
    panel.set_xscale("log")
    panel.set_xticks(shown, labels=[str(number) for number in shown])
    panel.set_xticks([], minor=True)
