"""Pictures of the impact of bias, of one run or of several side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.record import AnalysisRecord, Series
from debiasctl.reporting.arm_grids import GridRow, draw_arm_grid
from debiasctl.reporting.interval_curves import (
    CurvePanel,
    CurveStyle,
    IntervalCurve,
    curves_data,
    draw_interval_curves,
)
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.study_data import ArmStyle, arm_styles
from debiasctl.reporting.style import COLOURS
from debiasctl.wording import counted

LOG_SNR = "log SNR (noise at the left)"
CHANNELS = {"": ("mean", "#000000"), "r": ("red", "#D55E00"), "g": ("green", "#009E73"), "b": ("blue", "#0072B2")}
_MOST_ROWS = 12  # of a picture of images
_SHIFT = "in [-1, 1]"
BAND = "Bands are 95 % intervals over noises and images; of several seeds, thin lines, their mean and its t interval"


def impact_pictures(records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
    """Drift, spectrum, finished images over numbers of steps, the two kinds of bias, and one noise in all of them."""
    arms = list(dict.fromkeys(record.network.arm for record in records))
    styles = [CurveStyle(arm.label, arm.colour, arm.dashes) for arm in arm_styles(arms)]
    found = [
        _drift(records, arms, styles),
        _spectrum(records, arms, styles),
        _over_steps(records, arms, styles),
        _biases(records, arms, styles),
        _same_noise(records, images, arms),
    ]
    return [picture for picture in found if picture is not None]


def curves_of(
    records: Sequence[AnalysisRecord], arms: Sequence[str], name: str, *, style: int | None = None
) -> list[IntervalCurve]:
    """A series of each record, in its arm's style or in one that is given."""
    found = []
    for record in records:
        series = record.series_of(name)
        if series is not None:
            found.append(curve_of(series, arms.index(record.network.arm) if style is None else style))
    return found


def curve_of(series: Series, style: int) -> IntervalCurve:
    """A series as a curve."""
    return IntervalCurve(style, series.x, series.value, series.low, series.high)


def channels_of(records: Sequence[AnalysisRecord], base: str) -> list[str]:
    """The channels that a series was measured of, that of all together first."""
    return [channel for channel in CHANNELS if any(record.series_of(base.format(channel)) for record in records)]


def _numbers(records: Sequence[AnalysisRecord]) -> tuple[list[int], int]:
    """The numbers of steps that all records have, and the usual one."""
    stated = [record.settings["trajectories"] for record in records]
    common = [set(one) for one in stated if isinstance(one, dict)]
    numbers = sorted(int(steps) for steps in set.intersection(*common)) if common else []
    usual = int(str(records[0].settings["steps"]))
    return numbers, usual if usual in numbers else max(numbers, default=usual)


def _drift(records: Sequence[AnalysisRecord], arms: Sequence[str], styles: Sequence[CurveStyle]) -> Picture | None:
    numbers, usual = _numbers(records)
    channels = [""] if len(arms) > 1 else channels_of(records, f"estimate_drift[T={usual}, {{}}]") or [""]
    drawn = sorted({*numbers[:1], *[one for one in numbers if one in (5, 10)], usual, *numbers[-1:]})
    own = [CurveStyle(counted(steps, "step"), COLOURS[place]) for place, steps in enumerate(drawn)]
    if len(arms) > 1:
        panels = [
            CurvePanel(
                counted(steps, "step"), LOG_SNR, f"drift, {_SHIFT}",
                curves_of(records, arms, f"estimate_drift[T={steps}]"),
            )
            for steps in drawn
        ]  # fmt: skip
    else:
        columns = ["", *[one for one in channels if one]]
        panels = [
            CurvePanel(
                CHANNELS[channel][0], LOG_SNR, f"drift, {_SHIFT}",
                [
                    curve
                    for place, steps in enumerate(drawn)
                    for curve in curves_of(
                        records, arms, f"estimate_drift[{_case(steps, channel)}]", style=place
                    )
                ],
            )
            for channel in columns
        ]  # fmt: skip
    return _picture(
        "impact-drift", "Drift of the estimated image along sampling", panels, styles if len(arms) > 1 else own,
        f"How far the mean of the image that each step estimates is from the training images'. {BAND}.",
    )  # fmt: skip


def _case(steps: int, channel: str) -> str:
    return f"T={steps}, {channel}" if channel else f"T={steps}"


def _spectrum(records: Sequence[AnalysisRecord], arms: Sequence[str], styles: Sequence[CurveStyle]) -> Picture | None:
    _, usual = _numbers(records)
    prefix = f"estimate_power[T={usual}, "
    names = list(dict.fromkeys(s.name for record in records for s in record.series if s.name.startswith(prefix)))
    panels = []
    for name in names:
        band = name.removeprefix(prefix).removesuffix("]")
        title = "1 cycle per image" if band == "1 cycles" else f"{band} per image"
        panels.append(CurvePanel(title, LOG_SNR, "log power ratio", curves_of(records, arms, name)))
    return _picture(
        "impact-spectrum", f"Spectrum of the estimated image along {counted(usual, 'step')}", panels, styles,
        "Log ratio of the estimate's power to the training images', by spatial frequency. At much noise it is below 0 "
        f"even for the best estimate, which is smooth there. {BAND}.",
    )  # fmt: skip


def _over_steps(records: Sequence[AnalysisRecord], arms: Sequence[str], styles: Sequence[CurveStyle]) -> Picture | None:
    panels = []
    titles = {
        **{f"final_mean_shift{f'[{c}]' if c else ''}": (f"{w[0]} shift of images", False) for c, w in CHANNELS.items()},
        "final_spectrum_distance": ("spectrum distance", True),
        "image_distance": ("distance to most steps' image", True),
        "colour_distance": ("distance in mean colour", True),
    }
    for name, (title, squares) in titles.items():
        curves = curves_of(records, arms, name)
        if curves and any(len(curve.x) > 1 for curve in curves):
            label = "" if name == "final_spectrum_distance" else _SHIFT
            panels.append(CurvePanel(title, "sampling steps", label, curves, x_log=True, squares=squares))
    return _picture(
        "impact-steps", "Finished images over the number of sampling steps", panels, styles,
        "The finished images' mean and spectrum against the training images', and how far the image of one noise is "
        f"from the one that the same noise gives in the most steps. {BAND}.",
    )  # fmt: skip


def _biases(records: Sequence[AnalysisRecord], arms: Sequence[str], styles: Sequence[CurveStyle]) -> Picture | None:
    _, usual = _numbers(records)
    kinds = {
        "training_bias": "training bias (true x_t)",
        "exposure_bias": "exposure bias (the rest)",
        "sampler_shift": "the sampler's clipping or guidance",
        f"estimate_drift[T={usual}": f"sum: drift along {counted(usual, 'step')}",
    }
    several = len(arms) > 1
    channels = [""] if several else channels_of(records, "training_bias[{}]")
    channels = [""] if several or not channels else ["", *channels]
    own = [CurveStyle(*CHANNELS[channel]) for channel in channels]
    panels = [
        CurvePanel(
            title, LOG_SNR, f"error, {_SHIFT}",
            curves_of(records, arms, _with_channel(name, ""))
            if several
            else [
                curve
                for place, channel in enumerate(channels)
                for curve in curves_of(records, arms, _with_channel(name, channel), style=place)
            ],
        )
        for name, title in kinds.items()
    ]  # fmt: skip
    return _picture(
        "impact-bias", "Training bias and exposure bias", panels, styles if several else own,
        "Error of the estimated image in its mean: of the network's own estimate from true x_t (training bias), what "
        "sampled x_t add to it (exposure bias), and what the sampler does to the estimate. Axes are limited to what is "
        f"known well. {BAND}.",
        columns=2,
    )  # fmt: skip


def _with_channel(name: str, channel: str) -> str:
    """A series' name for a channel; one with another case has its bracket left open."""
    if "[" not in name:
        return f"{name}[{channel}]" if channel else name
    return f"{name}, {channel}]" if channel else f"{name}]"


def _picture(
    name: str,
    title: str,
    panels: Sequence[CurvePanel],
    styles: Sequence[CurveStyle],
    caption: str,
    columns: int = 3,
) -> Picture | None:
    panels = [panel for panel in panels if panel.curves]
    if not panels:
        return None
    return Picture(
        name, title, caption, _alt(title, panels, styles), curves_data(panels, styles),
        lambda width: draw_interval_curves(panels, styles, width=width, columns=columns),
    )  # fmt: skip


def _alt(title: str, panels: Sequence[CurvePanel], styles: Sequence[CurveStyle]) -> str:
    """What the picture shows, for those who cannot see it."""
    drawn = dict.fromkeys(styles[curve.style].label for panel in panels for curve in panel.curves)
    shown = "; ".join(dict.fromkeys(panel.title for panel in panels))
    return f"{title}: curves against {panels[0].x_label} in the panels {shown}, with lines for {', '.join(drawn)}."


def _same_noise(records: Sequence[AnalysisRecord], images: Sequence[Arrays], arms: Sequence[str]) -> Picture | None:
    numbers, usual = _numbers(records)
    first = {arm: next(n for n, record in enumerate(records) if record.network.arm == arm) for arm in arms}
    if len(arms) > 1 and len(numbers) * len(arms) > _MOST_ROWS:
        most = max(2, _MOST_ROWS // len(arms))
        wanted = [one for one in numbers if one in {*numbers[:1], 5, 10, usual, *numbers[-1:]}]
        numbers = wanted[:most] if len(wanted) <= most else sorted({*wanted[: most - 1], wanted[-1]})
    rows, labels = [], []
    for steps in numbers:
        for arm, number in first.items():
            found = images[number].get(f"same_noise_{steps}")
            if found is None or found.shape[1] not in (1, 3):
                continue
            name = counted(steps, "step") + (f", {arm}" if len(arms) > 1 else "")
            rows.append(GridRow(name, _pixels(found)))
            labels.append(ArmStyle(name, name, "#000000", "-"))
    if not rows or len({row.images.shape[1:] for row in rows}) > 1:
        return None
    return Picture(
        "impact-noise", "One noise in different numbers of steps",
        "Each column begins with one noise; each row makes the image in another number of steps. The paper's Fig. 1 "
        "shows the same for its models.",
        f"A grid of sampled images, {len(rows)} rows of numbers of steps.", [row.arm for row in rows],
        lambda width: draw_arm_grid(rows, labels, width=width),
    )  # fmt: skip


def _pixels(images: Any) -> Any:
    """uint8 [N, H, W] or [N, H, W, 3] of images [N, C, H, W] in [-1, 1]."""
    pixels = ((np.asarray(images).clip(-1, 1) + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels
