"""The pictures of the part: the split of the error, errors in one direction, excess loss, and one-step estimates."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.existence.arms import Arm, arms_of
from debiasctl.analysis.parts.existence.drawing import Band, Curves, Stack, draw_panels, draw_rows
from debiasctl.analysis.parts.existence.quantities import RANGE_TEXT
from debiasctl.analysis.parts.part import LATENTS
from debiasctl.analysis.record import AnalysisRecord, Series
from debiasctl.reporting.panels import number_text
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.study_data import Panel, SeedLine, arm_styles
from debiasctl.reporting.style import COLOURS, Width
from debiasctl.reporting.terminal_pictures import curves_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_SPLITS = 6  # arms whose split is drawn
_FARTHEST = 12.5  # of log-SNR, beyond which nothing changes; the data of a picture has all
_MOST_ROWS = 4  # arms whose estimates are drawn
_CHANNELS = {"r": "#D55E00", "g": "#009E73", "b": "#0072B2"}
_NAMES = {"r": "red", "g": "green", "b": "blue"}
_PARTS = {"irreducible": "#BBBBBB", "systematic": "#D55E00", "rest": "#56B4E9"}
_SIDES = "noise is at the left, clean images at the right"
_LOG_SNR = "log SNR (noise at the left)"
_AMPLITUDE = "error of the amplitude"


def pictures_of(records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
    """All pictures for which the records have figures."""
    arms = arms_of(records)
    made = [_split(arms), _mean_errors(arms), _bands(arms), _excess(arms), _training(arms), _one_step(arms, images)]
    return [picture for picture in made if picture is not None]


def _picture(
    name: str, title: str, caption: str, arms: Sequence[Arm], panels: Sequence[Band], data: Sequence[str],
    *, text: Callable[[int], str] | None = None, same_height: bool = False,
) -> Picture | None:  # fmt: skip
    """A picture of panels, or None where nothing is drawn; `data` are the first words of the series in it."""
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        return None
    several = any(len(arm.records) > 1 for arm in arms)
    shades = (
        "Lines are means over training seeds, and shades the means' 95 % t intervals over seeds"
        if several
        else "Shades are 95 % intervals over the choice of images and noises"
    )
    alt = f"{title}, of {', '.join(arm.label for arm in arms)}."
    return Picture(
        f"existence-{name}", title, f"{caption} {shades}.", alt, _data(arms, data),
        lambda width: draw_panels(panels, width=width, same_height=same_height), text,
    )  # fmt: skip


def _data(arms: Sequence[Arm], names: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "run": record.network.run,
            "arm": record.network.arm,
            "series": [one.to_json() for one in record.series if one.name.partition("[")[0] in names],
        }
        for arm in arms
        for record in arm.records
    ]


def _within(series: Series) -> list[int]:
    """The points that are drawn, by their numbers."""
    return [n for n, x in enumerate(series.x) if series.axis != "log_snr" or abs(x) <= _FARTHEST]


def _curve(series: Series, label: str, colour: str, dashes: Any = "-") -> Curves:
    known = [number for number in _within(series) if series.value[number] is not None]
    value = [float(series.value[n] or 0) for n in known]
    ends = [
        [middle if end is None else end for middle, end in zip(value, [column[n] for n in known], strict=True)]
        for column in (series.low or series.value, series.high or series.value)
    ]
    return Curves(label, colour, dashes, [series.x[n] for n in known], value, *ends)


def _by_arm(arms: Sequence[Arm], name: str, title: str, y: str, **how: Any) -> Band:
    """A panel of one series with a curve for each arm."""
    found = [(arm, series) for arm in arms if (series := arm.series(name)) is not None]
    curves = [_curve(series, arm.label, arm.colour, arm.dashes) for arm, series in found]
    return Band(title, how.pop("x", _LOG_SNR), y, [curve for curve in curves if curve.x], **how)


def _split(arms: Sequence[Arm]) -> Picture | None:
    panels = []
    for arm in arms[:_MOST_SPLITS]:
        error, parts = arm.series("error_v"), {name: arm.series(f"{name}_v") for name in _PARTS}
        stacks = [
            Stack(name, _PARTS[name], [one.x[n] for n in _within(one)], [one.value[n] for n in _within(one)])
            for name, one in parts.items()
            if one is not None
        ]
        if error is not None and len(stacks) == len(_PARTS):
            curves = [_curve(error, "error", "#000000")]
            panels.append(Band(arm.label, _LOG_SNR, "squared error of v", curves, stacks=stacks))
    caption = (
        "Mean squared error of v on held-out images by log SNR, split into what no network could avoid (irreducible), "
        f"the squared mean error (systematic) and the rest; {_SIDES}. It is not split where no best estimate is known."
    )
    return _picture(
        "split", "Where the error comes from", caption, arms, panels,
        ["error_v", "irreducible_v", "systematic_v", "rest_v"], same_height=True,
    )  # fmt: skip


def _mean_errors(arms: Sequence[Arm]) -> Picture | None:
    if any(LATENTS in record.settings for arm in arms for record in arm.records):
        return None  # their means are no colours
    names = list(dict.fromkeys(
        name for arm in arms for name in arm.names("mean_error") if not name.startswith("mean_error[class ")
    ))  # fmt: skip
    y = "mean error of x0"
    if len(arms) == 1:
        curves = [
            _curve(series, _channel(name), _CHANNELS.get(_case(name), "#000000"))
            for name in names
            if (series := arms[0].series(name)) is not None
        ]
        panels = [Band("brightness" if len(curves) == 1 else "brightness and colour", _LOG_SNR, y, curves, level=0.0)]
    else:
        panels = [_by_arm(arms, name, _channel(name), y, level=0.0) for name in names]
    caption = (
        "Mean of the estimate of the image less that of the best estimate, in units of [−1, 1]: 0 is no systematic "
        f"error, below it is too dark; {_SIDES}. Where no best estimate is known, the images themselves take its place."
    )
    title = "Brightness and colour of the estimates"
    return _picture("mean-error", title, caption, arms, panels, ["mean_error"], same_height=True)


def _case(name: str) -> str:
    return name.partition("[")[2].rstrip("]")


def _channel(name: str) -> str:
    return _NAMES.get(_case(name), _case(name)) or "all channels"


def _bands(arms: Sequence[Arm]) -> Picture | None:
    names = list(dict.fromkeys(name for arm in arms for name in arm.names("amplitude_error")))
    titles = [_case(name).replace("-", "–") for name in names]
    titles = ["1 cycle" if title == "1 cycles" else title for title in titles]
    how: dict[str, Any] = {"level": 0.0, "limits": (-1.0, 1.0)}
    if len(arms) == 1:
        curves = [
            _curve(series, title, COLOURS[number % len(COLOURS)])
            for number, (name, title) in enumerate(zip(names, titles, strict=True))
            if (series := arms[0].series(name)) is not None
        ]
        panels = [Band("by frequency, per image", _LOG_SNR, _AMPLITUDE, curves, **how)] if curves else []
    else:
        panels = [_by_arm(arms, *one, _AMPLITUDE, **how) for one in zip(names, titles, strict=True)]
    caption = (
        "Share by which the amplitude of the estimate's structures is too large (below 0: too small; −1: they do not "
        f"follow x_t at all), by band of spatial frequency in cycles per image, against the best estimate; {_SIDES}."
    )
    title = "Structures of the estimates by frequency"
    return _picture("bands", title, caption, arms, panels, ["amplitude_error", "mean_error_size"])


def _excess(arms: Sequence[Arm]) -> Picture | None:
    panels = [
        _by_arm(arms, "excess_v", "above the least possible", "squared error of v", level=0.0),
        _by_arm(arms, "excess_share", "as a share of the least possible", "share", level=0.0),
    ]
    caption = (
        "Mean squared error of v on held-out images less that of the best estimate: what training could still win, in "
        f"a unit that does not depend on prediction, schedule or weighting; {_SIDES}."
    )
    lines = [SeedLine(curve.label, 0, curve.x, curve.y) for curve in panels[0].curves]
    panel = Panel("excess loss", _LOG_SNR, "squared error of v", lines)
    styles = arm_styles([line.arm for line in lines])
    return _picture(
        "excess", "Excess loss by noise level", caption, arms, panels, ["excess_v", "excess_share"],
        text=lambda columns: curves_text(panel, styles, columns=columns),
    )  # fmt: skip


def _training(arms: Sequence[Arm]) -> Picture | None:
    prefix = "excess_v_in_training"
    panels = []
    for name in dict.fromkeys(name for arm in arms for name in arm.names(prefix)):
        title = RANGE_TEXT[_case(name)].partition(",")[0]
        panel = _by_arm(arms, name, title, "excess loss in v", x="images seen")
        if any(len(curve.x) > 1 for curve in panel.curves):
            panels.append(panel)
    caption = (
        "Mean squared error of v on held-out images less that of the best estimate, as a mean over a range of log SNR, "
        "at the checkpoints that the run keeps."
    )
    return _picture("training", "Excess loss over training", caption, arms, panels, [prefix])


# ---------------------------------------------------------------- images


def _one_step(arms: Sequence[Arm], images: Sequence[Arrays]) -> Picture | None:
    """Images, noised ones and estimates of them; of each arm its first run."""
    shown = [(arm, images[arm.numbers[0]]) for arm in arms if "one_step_estimate" in images[arm.numbers[0]]]
    if not shown:
        return None
    levels, arrays = _levels(shown[0][0]), shown[0][1]
    alike = [
        (arm, one) for arm, one in shown if _levels(arm) == levels and one["x0"].shape == arrays["x0"].shape
    ][:_MOST_ROWS]  # fmt: skip
    num, rows = len(arrays["x0"]), [("image", arrays["x0"])]
    for number, level in enumerate(levels):
        part = slice(number * num, (number + 1) * num)
        rows.append((f"x_t: {level}", arrays["one_step_x_t"][part] / 2))
        rows += [(arm.label if len(alike) > 1 else "estimate", one["one_step_estimate"][part]) for arm, one in alike]
        best = arrays.get("one_step_ideal", arrays["x0"][:0])[part]
        if len(best):
            rows.append(("best", best))
    left_out = ", ".join(arm.label for arm in arms if all(arm is not one for one, _ in alike))
    caption = (
        "Estimates of the image in one step from large t: below each x_t (at half its contrast) what the network makes "
        "of it, and the best possible estimate, which is blurred as x_t does not tell more. Images are spread "
        "evenly over those measured, not chosen."
    ) + (f" Not shown, for another schedule or for want of room: {left_out}." if left_out else "")
    data = {"levels": levels, "runs": [arm.records[0].network.run for arm, _ in alike], "images": num}

    def draw(width: Width) -> "Figure":
        return draw_rows(rows, width=width)

    return Picture(
        "existence-one-step", "One-step estimates from large t", caption,
        f"Held-out images, noised ones and their one-step estimates, of {', '.join(arm.label for arm, _ in alike)}.",
        data, draw,
    )  # fmt: skip


def _levels(arm: Arm) -> list[str]:
    known = arm.records[0].settings.get("one_step_log_snr")
    values = known if isinstance(known, list) else []
    return [
        "pure noise" if value is None else f"log SNR {number_text(round(float(str(value)), 1))}" for value in values
    ]
