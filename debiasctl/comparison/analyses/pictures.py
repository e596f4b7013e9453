"""The pictures of an analysis: each part's own, and its series as means over training seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from debiasctl.comparison.analyses.means import curves_of
from debiasctl.comparison.analyses.results import Analysis, PartResult
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.study_data import ArmStyle, Panel, SeedLine, arm_styles, curves_json
from debiasctl.reporting.study_pictures import BAND, draw_curves
from debiasctl.reporting.terminal_pictures import curves_text

_MOST_PANELS = 9  # of a picture: further series are in its data alone
_LONGEST = 16  # letters of a unit beside an axis
_WIDE = 20.0  # of a range of positive values: from here on an axis is logarithmic
_AXES = {
    "log_snr": "log SNR (noise at the left)", "t": "timestep t", "steps": "sampling steps",
    "images": "training images seen", "cycles_per_image": "cycles per image",
}  # fmt: skip


def pictures_by_part(analysis: Analysis, weightings: Mapping[str, str]) -> dict[str, list[Picture]]:
    """Each part's pictures, under names that no other part has; `weightings` gives the arms' colours."""
    return {result.part.name: _pictures(result, weightings) for result in analysis.parts}


def _pictures(result: PartResult, weightings: Mapping[str, str]) -> list[Picture]:
    shown = result.entries if result.part.averages else result.firsts
    own = result.pictures(shown)
    several = any(len(entries) > 1 for entries in result.arms.values())
    note = " Each arm is shown by the run of its first training seed." if len(shown) < len(result.entries) else ""
    found = [
        replace(one, name=_named(result.part.name, one.name), caption=one.caption + note) for one in own
    ]  # fmt: skip
    means = _means(result, weightings) if several and not result.part.averages else None
    return found if means is None else [*found, means]


def _named(part: str, name: str) -> str:
    return name if name == part or name.startswith(f"{part}-") else f"{part}-{name}"


def _means(result: PartResult, weightings: Mapping[str, str]) -> Picture | None:
    """Every series with its mean over seeds and its band, an arm a colour."""
    panels = panels_of(result)
    if not panels:
        return None
    drawn = panels[:_MOST_PANELS]
    arms = _styles(result, weightings)
    caption = f"{BAND}."
    if len(panels) > len(drawn):
        caption += f" {len(panels) - len(drawn)} further series are in the data alone."
    return Picture(
        _named(result.part.name, "seeds"), f"Means of {result.part.name} over training seeds", caption,
        f"Curves of {len(drawn)} series for the arms {', '.join(arm.name for arm in arms)}.", curves_json(panels),
        lambda width: draw_curves(drawn, arms, width=width),
        lambda columns: "\n\n".join(curves_text(panel, arms, columns=columns) for panel in drawn),
    )  # fmt: skip


def _styles(result: PartResult, weightings: Mapping[str, str]) -> list[ArmStyle]:
    names = list(result.arms)
    return arm_styles(names, [weightings.get(name, name) for name in names])


def panels_of(result: PartResult) -> list[Panel]:
    """A panel for each series that has two points or more at which all seeds of an arm have a value."""
    known = {
        (arm, curve.name): {mean.x for mean in curve.means}
        for arm, entries in result.arms.items()
        for curve in curves_of(entries)
    }
    lines: dict[str, list[SeedLine]] = {}
    axes: dict[str, tuple[str, str]] = {}
    for entry in result.entries:
        for series in entry.record.series:
            shared = known[entry.arm, series.name]
            points = [(x, y) for x, y in zip(series.x, series.value, strict=True) if y is not None and x in shared]
            if len(points) > 1:
                axes.setdefault(series.name, (series.axis, series.unit))
                x, y = zip(*points, strict=True)
                lines.setdefault(series.name, []).append(SeedLine(entry.arm, entry.seed, x, y))
    return [
        _panel(name, *axes[name], of)
        for name, of in lines.items()
        if len(result.entries) == 1 or any((one.x, one.y) != (of[0].x, of[0].y) for one in of)
    ]  # what is the same in all runs needs no picture


def _panel(name: str, axis: str, unit: str, lines: Sequence[SeedLine]) -> Panel:
    return Panel(
        name, _AXES.get(axis, axis), unit if 0 < len(unit) <= _LONGEST else "value", lines,
        x_log=axis != "log_snr" and _is_wide([x for line in lines for x in line.x]),
        y_log=_is_wide([y for line in lines for y in line.y]),
    )  # fmt: skip


def _is_wide(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) > _WIDE * min(values)
