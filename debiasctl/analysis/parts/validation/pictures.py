"""The pictures of the part `validation`."""

from collections.abc import Sequence
from functools import partial

from debiasctl.analysis.parts.validation.findings import taus_of
from debiasctl.analysis.record import AnalysisRecord
from debiasctl.reporting.line_panels import Line, LinePanel, draw_lines, panels_json
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.rank_pictures import Cloud, Mark, draw_clouds, draw_marks
from debiasctl.reporting.study_data import arm_styles
from debiasctl.reporting.style import COLOURS

_WORDS = {"all": "all pairs of points", "between": "different runs, equal images", "within": "checkpoints of one run"}


def of_records(records: Sequence[AnalysisRecord]) -> list[Picture]:
    """The pictures of each record."""
    return [picture for record in records for picture in (_taus(record), _bins(record), _points(record)) if picture]


def _scopes(record: AnalysisRecord) -> list[str]:
    """The scopes that were compared, the strictest first."""
    return [scope for scope in ("between", "within", "all") if taus_of(record, scope)]


def _taus(record: AnalysisRecord) -> Picture | None:
    scopes = _scopes(record)
    if not scopes:
        return None
    marks = [
        Mark(_WORDS[scope], name, COLOURS[number], one.value, one.low, one.high)
        for number, scope in enumerate(scopes)
        for name, one in taus_of(record, scope).items()
    ]
    caption = (
        f"Kendall's tau-b between sums of held-out errors and {record.settings['metric']}: 1 where the lower error "
        "always has the better samples, 0 where it tells nothing. Bars are 95 % bootstrap intervals over runs."
    )
    data = [{"pairs": one.group, "sum": one.name, "tau": one.value, "low": one.low, "high": one.high} for one in marks]
    alt = f"Kendall's tau of {len(taus_of(record, scopes[0]))} sums of held-out errors, with intervals."
    draw = partial(draw_marks, marks, x_label="Kendall's tau-b")
    return Picture("validation-tau", "Which held-out error ranks runs as their samples", caption, alt, data,
                   lambda width: draw(width=width))  # fmt: skip


def _bins(record: AnalysisRecord) -> Picture | None:
    lines = []
    for number, scope in enumerate(_scopes(record)):
        one = record.series_of(f"tau_of_bin[{scope}]")
        if one is not None:
            lines.append(Line(_WORDS[scope], COLOURS[number], one.x, one.value, one.low, one.high))
    if not lines:
        return None
    panels = [LinePanel("the error in a single bin", "log SNR (noise at the left)", "Kendall's tau-b", lines, level=0)]
    caption = "The same for the error of v in single bins of log SNR: which noise levels tell."
    draw = partial(draw_lines, panels)
    return Picture("validation-bins", "Which noise levels tell", caption, "Kendall's tau over log SNR.",
                   panels_json(panels), lambda width: draw(width=width))  # fmt: skip


def _points(record: AnalysisRecord) -> Picture | None:
    runs = record.series_of("points")
    scopes = _scopes(record)
    if runs is None or not scopes:
        return None
    taus = taus_of(record, scopes[0])
    ordered = sorted(taus, key=lambda name: -taus[name].value)
    arms = [one.arm for one in (record.network, *record.others)]
    styles = {style.name: style for style in arm_styles(list(dict.fromkeys(arms)))}
    clouds = []
    for name in (ordered[0], ordered[-1]) if len(ordered) > 1 else ordered:
        one = record.series_of(f"figure_by[{name}]")
        if one is not None:
            own = [styles[arms[int(number or 0)]] for number in runs.value]
            clouds.append(Cloud(f"{name} (tau {taus[name].value:.2f})", f"held-out error, {name}", one.x,
                                [float(value or 0.0) for value in one.value], own))  # fmt: skip
    caption = (
        "Every checkpoint, by its held-out error and the figure of its samples: the sums that rank best and worst."
    )
    data = [
        {"sum": one.title, "x": list(one.x), "y": list(one.y), "arm": [arm.label for arm in one.arms]} for one in clouds
    ]
    draw = partial(draw_clouds, clouds, y_label=str(record.settings["metric"]))
    return Picture("validation-points", "Held-out error and samples", caption, "A scatter plot of checkpoints.", data,
                   lambda width: draw(width=width))  # fmt: skip
