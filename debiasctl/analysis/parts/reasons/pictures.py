"""The pictures of the part `reasons`, of one run or of several side by side."""

from collections.abc import Callable, Sequence
from functools import partial

from debiasctl.analysis.parts.reasons.findings import cases_of, conflict_rows
from debiasctl.analysis.record import AnalysisRecord, Series
from debiasctl.reporting.line_panels import Line, LinePanel, Matrix, draw_lines, draw_matrices, panels_json
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.study_data import ArmStyle, arm_styles
from debiasctl.reporting.style import styles as scheme_styles

_LOG_SNR = "log SNR (noise at the left)"
_COVERS = "Bars are 95 % intervals over images, noise and timesteps, not over training seeds."
_SHARES = (
    ("weight_share", "weight × density of t"),
    ("loss_share", "loss"),
    ("gradient_square_share", "squared gradient of an image"),
    ("gradient_norm_share", "norm of the mean gradient"),
    ("gradient_share", "mean gradient (sum 1)"),
)
Maker = Callable[[Sequence[AnalysisRecord], Sequence[ArmStyle]], Picture | None]


def of_records(records: Sequence[AnalysisRecord]) -> list[Picture]:
    """All pictures that the records have figures for."""
    if not records:
        return []
    styles = arm_styles([one.network.arm for one in records])
    makers: tuple[Maker, ...] = (_shares, _conflicts, _copying, _learning, *_counterfactuals(records))
    return [picture for maker in makers if (picture := maker(records, styles)) is not None]


def _line(series: Series | None, label: str, colour: str, dashes: object = "-", *, faint: bool = False) -> list[Line]:
    if series is None:
        return []
    return [Line(label, colour, series.x, series.value, series.low, series.high, dashes, faint)]


def _panel(title: str, name: str, records: Sequence[AnalysisRecord], styles: Sequence[ArmStyle]) -> LinePanel:
    lines = [
        line
        for record, style in zip(records, styles, strict=True)
        for line in _line(record.series_of(name), style.label, style.colour, style.dashes)
    ]
    return LinePanel(title, _LOG_SNR, "share", lines, level=0.0)


def _shares(records: Sequence[AnalysisRecord], styles: Sequence[ArmStyle]) -> Picture | None:
    panels = [_panel(title, name, records, styles) for name, title in _SHARES]
    signal = _panel("signal-to-noise of an image", "gradient_snr", records, styles)
    panels.append(LinePanel(signal.title, _LOG_SNR, "|mean|² / variance", signal.lines, y_log=True))
    caption = (
        "What each bin of log SNR has of the weight, of the loss and of the gradient at these weights. A bin that "
        "pulls against the whole mean gradient has a negative share of it; where there is no point, the mean gradient "
        f"cannot be told from noise. {_COVERS}"
    )
    return _lines_picture("reasons-shares", "Shares of loss and gradient", caption, panels, records)


def _lines_picture(
    name: str, title: str, caption: str, panels: Sequence[LinePanel], records: Sequence[AnalysisRecord]
) -> Picture | None:
    panels = [one for one in panels if any(value is not None for line in one.lines for value in line.y)]
    if not panels:
        return None
    arms = ", ".join(dict.fromkeys(one.network.arm for one in records))
    alt = f"{title} over log SNR for {arms}: {'; '.join(one.title for one in panels)}."
    draw = partial(draw_lines, panels)
    return Picture(name, title, caption, alt, panels_json(panels), lambda width: draw(width=width))


def _conflicts(records: Sequence[AnalysisRecord], styles: Sequence[ArmStyle]) -> Picture | None:
    matrices = [_matrix(record, "", style.label) for record, style in zip(records, styles, strict=True)]
    caption = (
        "Cosines between the mean gradients of bins of log SNR, free of the noise of single images. Grey: one of the "
        "two gradients cannot be told from noise. A dot: the sign is open (the 95 % interval holds 0; each "
        "interval is taken by itself here, while the counts in the findings have intervals that all hold at once)."
    )
    return _matrices_picture("reasons-conflicts", "Conflicts between noise levels", caption, matrices)


def _matrices_picture(name: str, title: str, caption: str, matrices: Sequence[Matrix]) -> Picture | None:
    matrices = [one for one in matrices if any(value is not None for row in one.values for value in row)]
    if not matrices:
        return None
    data = [{"title": one.title, "log_snr": list(one.names), "cosine": [list(row) for row in one.values]}
            for one in matrices]  # fmt: skip
    alt = f"{title}: a matrix of cosines for each of {', '.join(one.title for one in matrices)}."
    draw = partial(draw_matrices, matrices, label="cosine")
    return Picture(name, title, caption, alt, data, lambda width: draw(width=width))


def _matrix(record: AnalysisRecord, case: str, title: str) -> Matrix:
    rows = conflict_rows(record, case)
    values = [[None if i == j else value for j, value in enumerate(row.value)] for i, (_, row) in enumerate(rows)]
    return Matrix(title, [name for name, _ in rows], values, [_sure(row) for _, row in rows])


def _sure(row: Series) -> list[bool]:
    ends = zip(row.low or [None] * len(row.x), row.high or [None] * len(row.x), strict=True)
    return [low is not None and high is not None and (low > 0 or high < 0) for low, high in ends]


def _copying(records: Sequence[AnalysisRecord], styles: Sequence[ArmStyle]) -> Picture | None:
    slope = _panel("slope of eps_hat on its input x_t", "copy_slope", records, styles)
    r2 = _panel("R² of eps_hat on x_t", "copy_r2", records, styles)
    gain = _panel("error below the linear predictor's", "gain_over_linear", records, styles)
    errors = _panel("error of eps", "eps_error", records, styles)
    trivial = [
        *_line(records[0].series_of("eps_error[copy]"), "eps_hat = x_t", "#666666", (0, (1, 1.5)), faint=True),
        *_line(
            records[0].series_of("eps_error[linear]"), "best linear predictor", "#222222", (0, (5, 1.5)), faint=True
        ),
    ]
    factor = records[0].series_of("amplification")
    panels = [
        LinePanel(slope.title, _LOG_SNR, "slope", slope.lines, level=1.0),
        LinePanel(r2.title, _LOG_SNR, "R²", r2.lines, level=1.0),
        LinePanel(errors.title, _LOG_SNR, "mean square", [*errors.lines, *trivial], y_log=True),
        LinePanel(gain.title, _LOG_SNR, "share", gain.lines, level=0.0),
        LinePanel("errors of eps in x0", _LOG_SNR, "1/√SNR", _line(factor, "", "#222222"), y_log=True),
    ]
    caption = (
        "How far the network's estimate of the noise is a copy of its input, on held-out images, beside predictors "
        "that learn nothing of images but their mean and covariance; and by how much errors of eps are larger in x0. "
        "Bars are 95 % intervals over images."
    )
    return _lines_picture("reasons-copying", "Copying the input", caption, panels, records)


def _learning(records: Sequence[AnalysisRecord], styles: Sequence[ArmStyle]) -> Picture | None:
    panels = []
    for record, style in zip(records, styles, strict=True):
        curves = [one for one in record.series if one.name.startswith("heldout_v[")]
        lines = [
            Line(one.name.removeprefix("heldout_v[").removesuffix("]"), _ramp(number, len(curves)), one.x,
                 _relative(one.value))
            for number, one in enumerate(curves)
        ]  # fmt: skip
        title = f"{style.label}: error of v, of its first"
        panels.append(LinePanel(title, "training images", "relative error", lines, y_log=True))
    times = _panel("90 % of the fall reached", "images_to_90_percent", records, styles)
    panels.append(LinePanel(times.title, _LOG_SNR, "training images", times.lines))
    caption = (
        "Held-out errors of v in each bin of log SNR over training, relative to their first, which is the untrained "
        "network's where it is known; and the training images until 90 % of the whole fall. There bars reach from the "
        "measurement before it to the one after it."
    )
    return _lines_picture("reasons-learning", "When each noise level was learnt", caption, panels, records)


def _relative(values: Sequence[float | None]) -> list[float | None]:
    first = values[0]
    return [None if value is None or not first else value / first for value in values]


def _ramp(number: int, count: int) -> str:
    """A colour from noise (blue) to image (orange)."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return to_hex(colormaps["viridis"](0.05 + 0.85 * number / max(1, count - 1)))


def _counterfactuals(records: Sequence[AnalysisRecord]) -> list[Maker]:
    """A picture of shares, and one of conflicts, of each record that has other weightings."""
    found: list[Maker] = []
    for number, record in enumerate(records):
        if cases_of(record):
            found += [partial(_other_shares, number), partial(_other_conflicts, number)]
    return found


def _other_shares(number: int, records: Sequence[AnalysisRecord], styles: Sequence[ArmStyle]) -> Picture | None:
    record, label = records[number], styles[number].label
    panels = []
    for name, title in _SHARES:
        lines = _line(record.series_of(name), f"{label} (as trained)", "#222222")
        cases = cases_of(record)
        for case, (colour, dashes) in zip(cases, scheme_styles(cases), strict=True):
            lines += _line(record.series_of(f"{name}[{case}]"), case, colour, dashes)
        panels.append(LinePanel(title, _LOG_SNR, "share", lines, level=0.0))
    caption = (
        f"What other weightings would have spent where, from the gradients of {label}: each is exactly the gradient of "
        f"the objective with that weighting at these weights. {_COVERS}"
    )
    return _lines_picture(
        f"reasons-counterfactual-{number + 1}", f"{label} with other weightings", caption, panels, [record]
    )


def _other_conflicts(number: int, records: Sequence[AnalysisRecord], styles: Sequence[ArmStyle]) -> Picture | None:
    record, label = records[number], styles[number].label
    matrices = [_matrix(record, case, case or f"{label} (as trained)") for case in ("", *cases_of(record))]
    caption = f"Cosines between the mean gradients of bins of log SNR of {label}, with other weightings."
    return _matrices_picture(
        f"reasons-counterfactual-conflicts-{number + 1}", f"{label}: conflicts with other weightings", caption, matrices
    )
