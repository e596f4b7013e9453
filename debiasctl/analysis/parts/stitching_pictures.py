"""Pictures of stitched sampling: each metric over the step of exchange, and what each range of steps carries."""

from collections.abc import Sequence

from debiasctl.analysis.parts.impact_pictures import curve_of
from debiasctl.analysis.parts.impact_words import case
from debiasctl.analysis.record import AnalysisRecord
from debiasctl.evaluation.metrics.catalogue import LOWER, direction
from debiasctl.reporting.interval_bars import BarPanel, bars_data, draw_interval_bars
from debiasctl.reporting.interval_curves import CurvePanel, CurveStyle, curves_data, draw_interval_curves
from debiasctl.reporting.names import short_names
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.study_data import Bounded
from debiasctl.reporting.style import COLOURS

_LONGEST = 24  # letters of an arm's name


def stitching_pictures(records: Sequence[AnalysisRecord]) -> list[Picture]:
    """The pictures of each pair of arms, its seeds together."""
    pairs: dict[tuple[str, str], list[AnalysisRecord]] = {}
    for record in records:
        pairs.setdefault((record.network.arm, record.others[0].arm), []).append(record)
    found = []
    for number, (pair, own) in enumerate(pairs.items()):
        suffix = f"-{number + 1}" if len(pairs) > 1 else ""
        this, other = short_names(pair if pair[0] != pair[1] else (f"{pair[0]} (first)", pair[1]), longest=_LONGEST)
        found += [_curves(own, this, other, suffix), _bars(own, this, other, suffix)]
    return found


def _curves(records: Sequence[AnalysisRecord], this: str, other: str, suffix: str) -> Picture:
    styles = [
        CurveStyle(f"{this} first, then {other}", COLOURS[0]),
        CurveStyle(f"{other} first, then {this}", COLOURS[1], (0, (6, 2))),
    ]
    panels = []
    for metric in _metrics(records):
        curves = [
            curve_of(series, style)
            for record in records
            for style, first in enumerate(("this", "other"))
            if (series := record.series_of(f"{metric}[{first} first]")) is not None
        ]
        squares = direction(metric) == LOWER and all(y is None or y >= 0 for one in curves for y in one.low or one.y)
        panels.append(CurvePanel(metric, "number of first steps", "", curves, squares=squares))
    return Picture(
        f"stitching{suffix}", f"Stitched sampling of {this} and {other}",
        f"One network makes the first steps and the other the rest. At 0 and at {records[0].settings['steps']} steps "
        "one network makes all. Bands are 95 % intervals of each figure by itself, over noises that all share, so that "
        "differences are known far better than the bands are wide; of several seeds, thin lines, their mean and its t "
        "interval.",
        f"{len(panels)} panels of curves of metrics over the step at which two networks are exchanged.",
        curves_data(panels, styles), lambda width: draw_interval_curves(panels, styles, width=width),
    )  # fmt: skip


def _bars(records: Sequence[AnalysisRecord], this: str, other: str, suffix: str) -> Picture:
    panels = []
    for metric in _metrics(records):
        bars: dict[str, list[Bounded]] = {}
        for record in records:
            for one in record.quantities:
                cases = case(one.name, "stitched_change")
                if cases is not None and cases[0] == metric:
                    name = cases[1] if len(cases) > 1 else "all steps"
                    bars.setdefault(name, []).append(Bounded(one.value, one.low, one.high))
        panels.append(BarPanel(metric, bars))
    return Picture(
        f"stitching-carried{suffix}", f"What each range of steps carries of the change from {this} to {other}",
        "Change of the metric when these steps are made by the second network in place of the first, mean of both "
        "orders. The ranges add up to all steps. Lines are 95 % intervals over noises, of several seeds over seeds.",
        f"{len(panels)} panels of bars, one a range of sampling steps.",
        bars_data(panels), lambda width: draw_interval_bars(panels, width=width),
    )  # fmt: skip


def _metrics(records: Sequence[AnalysisRecord]) -> list[str]:
    names = [one.name.partition("[")[0] for record in records for one in record.series]
    return list(dict.fromkeys(names))
