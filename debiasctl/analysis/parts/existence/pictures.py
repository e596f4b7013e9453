"""The pictures of the part: the split of the error, errors in one direction, excess loss, and one-step estimates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.existence.drawing import Band, Curves, Stack, draw_panels, draw_rows
from debiasctl.analysis.record import AnalysisRecord, Series
from debiasctl.reporting.names import short_names
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.study_data import Panel, SeedLine, arm_styles
from debiasctl.reporting.style import COLOURS, Width
from debiasctl.reporting.terminal_pictures import curves_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SPLITS = 6  # runs whose split is drawn
_MOST_ROWS = 4  # runs whose estimates are drawn
_CHANNELS = {"r": "#D55E00", "g": "#009E73", "b": "#0072B2"}
_NAMES = {"r": "red", "g": "green", "b": "blue"}
_PARTS = {"irreducible": "#BBBBBB", "systematic": "#D55E00", "rest": "#56B4E9"}
_INTERVAL = "Shades are 95 % intervals over the choice of images and noises"
_CLEAN = "noise is at the left, clean images at the right"


def pictures_of(records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
    """All pictures for which the records have figures."""
    labels = _labels(records)
    made = [
        _split(records, labels),
        _mean_errors(records, labels),
        _bands(records, labels),
        _excess(records, labels),
        _training(records, labels),
        _one_step(records, images, labels),
    ]
    return [picture for picture in made if picture is not None]


def _labels(records: Sequence[AnalysisRecord]) -> list[str]:
    """A name for each record: its arm's where that tells them apart, and its run's where it does not."""
    arms = [record.network.arm for record in records]
    names = arms if len(set(arms)) == len(arms) else [record.network.run for record in records]
    return short_names(names, longest=24)


def _colours(records: Sequence[AnalysisRecord]) -> list[tuple[str, Any]]:
    """The colour and line style of each record: its arm's, by the arm's weighting where it is named so."""
    arms = list(dict.fromkeys(record.network.arm for record in records))
    styles = {one.name: (one.colour, one.dashes) for one in arm_styles(arms)}
    return [styles[record.network.arm] for record in records]


def _curve(series: Series, label: str, colour: str, dashes: Any = "-") -> Curves:
    known = [number for number, value in enumerate(series.value) if value is not None]
    low, high = series.low or series.value, series.high or series.value
    return Curves(
        label, colour, dashes, [series.x[n] for n in known], [float(series.value[n] or 0) for n in known],
        [float(low[n] or 0) for n in known], [float(high[n] or 0) for n in known],
    )  # fmt: skip


def _data(records: Sequence[AnalysisRecord], prefixes: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"run": record.network.run, "arm": record.network.arm, "series": [
            one.to_json() for one in record.series if one.name.partition("[")[0] in prefixes
        ]}
        for record in records
    ]  # fmt: skip


def _split(records: Sequence[AnalysisRecord], labels: Sequence[str]) -> Picture | None:
    panels = []
    for record, label in list(zip(records, labels, strict=True))[:_MOST_SPLITS]:
        parts = {name: record.series_of(f"{name}_v") for name in _PARTS}
        error = record.series_of("error_v")
        if error is None or any(one is None for one in parts.values()):
            continue
        stacks = [
            Stack(name, _PARTS[name], one.x, [value if value is not None else None for value in one.value])
            for name, one in parts.items()
            if one is not None
        ]
        panels.append(Band(label, "log SNR", "squared error of v", [_curve(error, "error", "#000000")], stacks=stacks))
    if not panels:
        return None
    caption = (
        "Mean squared error of v on held-out images by log SNR, split into what no network could avoid (irreducible), "
        "the squared mean error (systematic) and the rest. Where no best estimate is known the error is not split; "
        f"{_CLEAN}."
    )
    return Picture(
        "existence-split", "Where the error comes from", caption, 
        f"Error of v over log SNR, split, of {_listed(labels)}.",
        _data(records, ["error_v", "irreducible_v", "systematic_v", "rest_v"]),
        lambda width: draw_panels(panels, width=width),
    )  # fmt: skip


def _mean_errors(records: Sequence[AnalysisRecord], labels: Sequence[str]) -> Picture | None:
    panels = []
    if len(records) == 1:
        curves = [
            _curve(one, _NAMES.get(name, name or "all channels"), _CHANNELS.get(name, "#000000"))
            for one in records[0].series
            if one.name == "mean_error"
            or (one.name.startswith("mean_error[") and not one.name.startswith("mean_error[class "))
            for name in [one.name.partition("[")[2].rstrip("]")]
        ]
        panels = [Band("brightness and colour", "log SNR", "mean error of x0", curves, level=0.0)] if curves else []
    else:
        names = list(dict.fromkeys(
            one.name for record in records for one in record.series
            if one.name == "mean_error" or (one.name.startswith("mean_error[") and "class " not in one.name)
        ))  # fmt: skip
        for name in names:
            case = name.partition("[")[2].rstrip("]")
            panels.append(
                _by_run(records, labels, name, _NAMES.get(case, case) or "all channels", "mean error of x0", 0.0)
            )
    if not panels:
        return None
    caption = (
        "Mean of the estimate of the image less that of the best estimate, in units of [−1, 1]: 0 is no systematic "
        f"error, below it is too dark. {_INTERVAL}; {_CLEAN}."
    )
    return Picture(
        "existence-mean-error", "Brightness and colour of the estimates", caption,
        f"Mean error of the estimated image over log SNR, of {_listed(labels)}.", _data(records, ["mean_error"]),
        lambda width: draw_panels(panels, width=width),
    )  # fmt: skip


def _by_run(
    records: Sequence[AnalysisRecord], labels: Sequence[str], name: str, title: str, y: str, level: float | None,
    *, log: bool = False, x: str = "log SNR",
) -> Band:  # fmt: skip
    """A panel of one series with a curve for each record."""
    curves = [
        _curve(series, label, *style)
        for record, label, style in zip(records, labels, _colours(records), strict=True)
        if (series := record.series_of(name)) is not None
    ]
    return Band(title, x, y, curves, level=level, log=log)


def _bands(records: Sequence[AnalysisRecord], labels: Sequence[str]) -> Picture | None:
    names = [one.name for one in records[0].series if one.name.startswith("amplitude_error[")]
    if not names:
        return None
    if len(records) == 1:
        curves = [
            _curve(one, name.partition("[")[2].removesuffix(" cycles]"), COLOURS[number % len(COLOURS)])
            for number, name in enumerate(names)
            if (one := records[0].series_of(name)) is not None
        ]
        panels = [Band("by cycles per image", "log SNR", "error of the amplitude", curves, level=0.0)]
    else:
        panels = [
            _by_run(records, labels, name, name.partition("[")[2].rstrip("]"), "error of the amplitude", 0.0)
            for name in names
        ]
    caption = (
        "Share by which the amplitude of the estimate's structures is too large (below 0: too small), by band of "
        f"spatial frequency, against the best estimate. {_INTERVAL}; {_CLEAN}."
    )
    return Picture(
        "existence-bands", "Structures of the estimates by frequency", caption,
        f"Error of the amplitude of structures by frequency over log SNR, of {_listed(labels)}.",
        _data(records, ["amplitude_error", "mean_error_size"]), lambda width: draw_panels(panels, width=width),
    )  # fmt: skip


def _excess(records: Sequence[AnalysisRecord], labels: Sequence[str]) -> Picture | None:
    panels = [
        _by_run(records, labels, "excess_v", "loss beyond the least possible", "squared error of v", 0.0),
        _by_run(records, labels, "excess_share", "as a share of the least possible", "share", 0.0),
    ]
    if not panels[0].curves:
        return None
    caption = (
        "Mean squared error of v on held-out images less that of the best estimate: what training could still win, in "
        f"a unit that does not depend on prediction, schedule or weighting. {_INTERVAL}; {_CLEAN}."
    )
    lines = [SeedLine(record.network.arm, number, one.x, one.y) for number, (record, one) in
             enumerate(zip(records, panels[0].curves, strict=False))]  # fmt: skip
    text = Panel("loss beyond the least possible", "log SNR", "squared error of v", lines)
    arms = arm_styles(list(dict.fromkeys(record.network.arm for record in records)))
    return Picture(
        "existence-excess", "Excess loss by noise level", caption, f"Excess loss over log SNR, of {_listed(labels)}.",
        _data(records, ["excess_v", "excess_share"]), lambda width: draw_panels(panels, width=width),
        lambda columns: curves_text(text, arms, columns=columns),
    )  # fmt: skip


def _training(records: Sequence[AnalysisRecord], labels: Sequence[str]) -> Picture | None:
    prefix = "excess_v_in_training"
    names = list(dict.fromkeys(
        one.name for record in records for one in record.series if one.name.startswith(prefix) and len(one.x) > 1
    ))  # fmt: skip
    if not names:
        return None
    panels = [
        _by_run(records, labels, name, name.partition("[")[2].rstrip("]"), "excess loss in v", None, x="images seen")
        for name in names
    ]
    caption = (
        "Mean squared error of v on held-out images less that of the best estimate, over ranges of log SNR (noisy: "
        f"below −1, middle: −1 to 1, clean: above 1), at the checkpoints that the run keeps. {_INTERVAL}."
    )
    return Picture(
        "existence-training", "Excess loss over training", caption,
        f"Excess loss over the images seen in training, of {_listed(labels)}.", _data(records, [prefix]),
        lambda width: draw_panels(panels, width=width),
    )  # fmt: skip


def _one_step(records: Sequence[AnalysisRecord], images: Sequence[Arrays], labels: Sequence[str]) -> Picture | None:
    shown = [(record, arrays, label) for record, arrays, label in zip(records, images, labels, strict=True)
             if "one_step_estimate" in arrays][:_MOST_ROWS]  # fmt: skip
    if not shown:
        return None
    first, arrays, _ = shown[0]
    levels = _levels(first)
    alike = [one for one in shown if _levels(one[0]) == levels and one[1]["x0"].shape == arrays["x0"].shape]
    num, rows = len(arrays["x0"]), [("image", arrays["x0"])]
    for number, level in enumerate(levels):
        part = slice(number * num, (number + 1) * num)
        rows.append((f"x_t, {level}", arrays["one_step_x_t"][part] / 2))
        rows += [(label if len(alike) > 1 else "estimate", one["one_step_estimate"][part]) for _, one, label in alike]
        best = arrays.get("one_step_ideal", arrays["x0"][:0])[part]
        if len(best):
            rows.append(("best", best))
    caption = (
        "Estimates of the image in one step from large t: in each block x_t (at half its contrast), what the network "
        "estimates from it, and the best possible estimate, which is blurred as x_t does not tell more. Images are the "
        "first of those measured, not chosen."
    )
    data = {"levels": levels, "runs": [record.network.run for record, _, _ in alike], "images": num}

    def draw(width: Width) -> "Figure":
        return draw_rows(rows, width=width)

    return Picture(
        "existence-one-step", "One-step estimates from large t", caption,
        f"Held-out images, noised ones and their one-step estimates, of {_listed([label for *_, label in alike])}.",
        data, draw,
    )  # fmt: skip


def _levels(record: AnalysisRecord) -> list[str]:
    known = record.settings.get("one_step_log_snr")
    values = known if isinstance(known, list) else []
    return ["pure noise" if value is None else f"log SNR {float(str(value)):.1f}" for value in values]


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels)
