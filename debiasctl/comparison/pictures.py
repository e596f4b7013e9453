"""The pictures of a study, each of which can be drawn for a paper, a report or a terminal."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from debiasctl.comparison.run_sources import RunSources
from debiasctl.comparison.study_record import Study, StudyCell, StudyCurve
from debiasctl.comparison.words import AIM, cell_name, listed
from debiasctl.reporting.arm_grids import draw_arm_grid
from debiasctl.reporting.effect_pictures import draw_dots, draw_forest
from debiasctl.reporting.names import short_names, shown
from debiasctl.reporting.picture import Picture as Picture
from debiasctl.reporting.study_data import ArmStyle, Dots, Effect, Panel, SeedLine, arm_styles, curves_json, means_of
from debiasctl.reporting.study_pictures import BAND, draw_curves
from debiasctl.reporting.style import Width
from debiasctl.reporting.terminal_pictures import curves_text, forest_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES = {
    "verdicts": "Differences from the reference",
    "training": "Figures against training images seen",
    "steps": "Figures against sampling steps",
    "samples": "Samples from one noise",
    "colours": "Colour statistics",
    "heldout": "Held-out error by log-SNR",
    "weights": "Effective weights",
}
_MOST_PANELS = 9  # of a picture: further metrics are in the tables
_MOST_EFFECTS = 72
_COLOUR = re.compile(r"(mean|std)_shift_([a-z]+)")
_STATISTIC = {"mean": "shift of the mean", "std": "shift of the standard deviation"}
_CHANNEL = {"r": "red", "g": "green", "b": "blue", "grey": "grey"}


def _picture(
    name: str,
    caption: str,
    alt: str,
    data: Any,
    draw: "Callable[[Width], Figure]",
    text: Callable[[int], str] | None = None,
) -> Picture:
    return Picture(name, PICTURES[name], caption, alt, data, draw, text)


def pictures_of(study: Study, sources: RunSources) -> list[Picture]:
    """All pictures for which the study and its runs have data."""
    arms = study_styles(study, sources)
    made = [
        _verdicts(study, arms),
        *(_curves(study, sources, arms, axis) for axis in ("training", "steps")),
        _samples(study, sources, arms),
        _colours(study, arms),
        _heldout(study, sources, arms),
        _weights(sources, arms),
    ]
    return [picture for picture in made if picture is not None]


def study_styles(study: Study, sources: RunSources) -> list[ArmStyle]:
    """The arms' styles: colours are those of their weightings, where these are known."""
    weightings = [
        (sources.specs[arm.name].known_weighting if arm.name in sources.specs else None) or arm.name
        for arm in study.arms
    ]
    return arm_styles([arm.name for arm in study.arms], weightings)


def _bands(panels: Sequence[Panel]) -> str:
    """What a caption says about lines and bands."""
    several = any(
        mean.num > 1 for panel in panels for arm in {line.arm for line in panel.lines} for mean in means_of(panel, arm)
    )
    if not several:
        return "Each arm has one training seed, so that no band says how much another seed would change."
    return f"{BAND}; a band that leaves its panel is cut. n is the number of seeds."


# ---------------------------------------------------------------- verdicts


def effects_of(study: Study) -> list[Effect]:
    """Differences from the reference in percent of its figure, positive where the arm is better; the primary first."""
    found = []
    for cell in sorted(study.cells, key=lambda cell: not cell.primary):
        scale = _scale(cell, study.reference)
        for one in (one for one in study.verdicts if one.cell == cell.key):
            sign = 1.0 if cell.better == "higher" else -1.0
            value, low, high = (
                None if end is None or scale is None else sign * 100 * end / scale
                for end in (one.difference, one.low, one.high)
            )
            ends = (low, high) if sign > 0 else (high, low)
            margin = None if one.margin is None or scale is None else 100 * one.margin / scale
            found.append(Effect(cell_name(cell), one.arm, value, *ends, margin, one.word, primary=cell.primary))
    return found


def _scale(cell: StudyCell, reference: str) -> float | None:
    """The size of the reference's figure, or None where it is 0 or missing."""
    mean = next((arm.mean for arm in cell.arms if arm.arm == reference), None)
    return abs(mean) if mean else None


def _verdicts(study: Study, arms: Sequence[ArmStyle]) -> Picture | None:
    effects = effects_of(study)
    metrics = list(dict.fromkeys(one.metric for one in effects))
    whole = max(1, _MOST_EFFECTS * len(metrics) // max(1, len(effects)))  # metrics that are drawn with all their arms
    drawn = [one for one in effects if one.metric in metrics[:whole]]
    if not any(one.value is not None for one in drawn):
        return None
    words = [one.word for one in drawn]
    counts = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    left_out = len(effects) - len(drawn)
    caption = (
        f"Difference of each arm from '{study.reference}' with its 95 % interval over training seeds, in percent of "
        "the reference's own figure; better lies to the right in every metric. A filled mark has a verdict, an empty "
        f"one has none. The grey band is the margin of equivalence ({100 * study.margin:.3g} %); the primary metric "
        "is bold. An arrow marks an interval that reaches beyond the axis."
    )
    if left_out:
        caption += f" {left_out} further differences are in the table alone."
    return _picture(
        "verdicts", caption, f"Forest plot of {len(drawn)} differences from {study.reference}: {counts}.",
        [asdict(one) for one in effects],
        lambda width: draw_forest(drawn, arms, reference=study.reference, width=width),
        lambda columns: forest_text(effects, reference=study.reference, columns=columns),
    )  # fmt: skip


# ---------------------------------------------------------------- curves

_AXES = {"training": ("images_seen", "training images seen"), "steps": ("steps", "sampling steps")}


def _curves(study: Study, sources: RunSources, arms: Sequence[ArmStyle], name: str) -> Picture | None:
    axis, label = _AXES[name]
    primary = study.cell(study.primary)

    def is_primary(curve: StudyCurve) -> bool:
        return curve.metric == primary.metric and curve.measured.get("steps", primary.steps) == primary.steps

    curves = [curve for curve in study.curves if curve.axis == axis and len(_places(curve)) > 1]
    curves.sort(key=lambda curve: (curve.measured.get("steps", primary.steps) != primary.steps, not is_primary(curve)))
    nfe = sources.nfe if axis == "steps" and all(sources.nfe.keys() >= _places(curve) for curve in curves) else {}
    label = "network evaluations (NFE)" if nfe else label
    panels = [
        _panel(study, curve, label, nfe=nfe, log=axis == "steps", strong=is_primary(curve)) for curve in curves
    ]  # fmt: skip
    if not panels:
        return None
    drawn = panels[:_MOST_PANELS]
    caption = _bands(drawn)
    if len(panels) > len(drawn):
        caption += f" {len(panels) - len(drawn)} further curves are in the data alone."
    metrics = listed(list(dict.fromkeys(curve.metric for curve in curves[:_MOST_PANELS])))
    return _picture(
        name, caption, f"Curves of {metrics} against {label} for the arms {listed([arm.name for arm in arms])}.",
        curves_json(panels), lambda width: draw_curves(drawn, arms, width=width),
        lambda columns: curves_text(drawn[0], arms, columns=columns),
    )  # fmt: skip


def _places(curve: StudyCurve) -> set[float]:
    return {point.x for line in curve.lines for point in line.points}


def _panel(
    study: Study, curve: StudyCurve, label: str, *, nfe: Mapping[int, int], log: bool, strong: bool
) -> Panel:  # fmt: skip
    lines = [
        SeedLine(
            line.arm, line.seed, [float(nfe.get(int(point.x), point.x)) for point in line.points],
            [point.value for point in line.points],
        )
        for line in curve.lines
    ]  # fmt: skip
    steps = None if log else curve.measured.get("steps")
    cells = [cell for cell in study.cells if cell.metric == curve.metric and (steps is None or cell.steps == steps)]
    values = [y for line in lines for y in line.y]
    level = next((cell.floor for cell in cells if cell.floor is not None), None)
    span = max(values) - min(values)
    if level is not None and not min(values) - span <= level <= max(values) + span:
        level = None  # it would flatten what is to be seen
    title = shown(curve.metric if steps is None else f"{curve.metric}, {steps} steps")
    return Panel(
        title, label, AIM[curve.better], lines, x_log=log,
        level=level, level_label="real images (floor)", strong=strong,
    )  # fmt: skip


# ---------------------------------------------------------------- images


def _samples(study: Study, sources: RunSources, arms: Sequence[ArmStyle]) -> Picture | None:
    if not sources.samples:
        return None
    measured = study.cell(study.primary).measured.get("weights")
    weights = "" if measured is None else f", weights '{measured}'"
    caption = (
        f"The first samples of each arm, not chosen: a row is an arm, and each column starts from the same noise "
        f"({sources.samples_where}; training seed {sources.samples_seed}{weights})."
    )
    data = {
        "arms": [row.arm for row in sources.samples],
        "images": len(sources.samples[0].images),
        "training_seed": sources.samples_seed,
        "drawn": sources.samples_where,
    }
    names = listed([row.arm for row in sources.samples])
    return _picture(
        "samples", caption, f"Grid of samples with a row for each of the arms {names}.", data,
        lambda width: draw_arm_grid(sources.samples, arms, width=width),
    )  # fmt: skip


def _colours(study: Study, arms: Sequence[ArmStyle]) -> Picture | None:
    steps = study.cell(study.primary).steps
    cells = [cell for cell in study.cells if _COLOUR.fullmatch(cell.metric)]
    at = [cell for cell in cells if cell.steps == steps] or cells
    dots = []
    for cell in at:
        found = _COLOUR.fullmatch(cell.metric)
        assert found is not None, "they were chosen so"
        panel = _STATISTIC[found[1]] + (f", {cell.steps} steps" if cell.steps is not None else "")
        for arm in cell.arms:
            if arm.figures:
                dots.append(Dots(panel, _CHANNEL.get(found[2], found[2]), arm.arm, [one.value for one in arm.figures]))
    if not dots:
        return None
    caption = (
        "Mean and standard deviation of each colour channel of the samples minus those of real images, in units of "
        "[−1, 1]: 0 is best. Dots are training seeds, a bar is their mean, and the line beside it the mean's 95 % t "
        "interval over seeds; an interval that leaves its panel is cut."
    )
    return _picture(
        "colours", caption, f"Colour shifts of {listed([arm.name for arm in arms])} by channel, each seed a dot.",
        [asdict(one) for one in dots], lambda width: draw_dots(dots, arms, width=width),
    )  # fmt: skip


# ---------------------------------------------------------------- why


def _heldout(study: Study, sources: RunSources, arms: Sequence[ArmStyle]) -> Picture | None:
    if not sources.heldout:
        return None
    unit = sources.heldout_unit
    lines = list(sources.heldout)
    absolute = Panel(f"error of {unit}", "log-SNR", "mean squared error", lines, y_log=True, x_falls=True)
    panels = [absolute]
    base = {mean.x: mean.value for mean in means_of(absolute, study.reference)}
    relative = [
        SeedLine(line.arm, line.seed, *zip(*pairs, strict=True))
        for line in lines
        if (pairs := [(x, y / base[x]) for x, y in zip(line.x, line.y, strict=True) if base.get(x) and y > 0])
    ]
    (base_name,) = short_names([study.reference], longest=16)
    if len({line.arm for line in relative}) > 1:
        panels.append(
            Panel("relative to the reference", "log-SNR", f"error / {base_name}'s", relative, y_log=True,
                  x_falls=True)
        )  # fmt: skip
    in_latents = any(spec.latents is not None for spec in sources.specs.values())
    of = "the latents of held-out images" if in_latents else "held-out images"
    caption = (
        f"Mean squared error of {unit} on {of} in each bin of log-SNR, unweighted, so that arms can be "
        f"compared; clean images are at the left. {_bands(panels)} Means and intervals are those of the logarithms."
    )
    return _picture(
        "heldout", caption, f"Held-out error against log-SNR for the arms {listed([arm.name for arm in arms])}.",
        curves_json(panels), lambda width: draw_curves(panels, arms, width=width),
        lambda columns: curves_text(panels[-1], arms, columns=columns),
    )  # fmt: skip


def _weights(sources: RunSources, arms: Sequence[ArmStyle]) -> Picture | None:
    if not sources.weights:
        return None
    unit = sources.weights_unit
    floor = max(y for line in sources.weights for y in line.y) * 1e-8
    lines = [
        SeedLine(line.arm, line.seed, *zip(*pairs, strict=True))
        for line in sources.weights
        if (pairs := [(x, y) for x, y in zip(line.x, line.y, strict=True) if y > floor and math.isfinite(x)])
    ]
    panel = Panel(f"weight on the squared error of {unit}", "log-SNR", "weight", lines, y_log=True, x_falls=True)
    caption = (
        f"Effective weight on the squared error of {unit} at the start of training: the loss weight times the density "
        "with which training draws a noise level, relative to that of uniform timesteps. Clean images are at the left."
    )
    return _picture(
        "weights", caption, f"Effective weights over log-SNR of the arms {listed([arm.name for arm in arms])}.",
        curves_json([panel]), lambda width: draw_curves([panel], arms, width=width),
        lambda columns: curves_text(panel, arms, columns=columns),
    )  # fmt: skip
