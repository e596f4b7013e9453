"""Pictures of a study drawn with characters: effects as bars of one line, and curves in a small frame."""

import math
from collections.abc import Sequence

from debiasctl.reporting.effect_pictures import CONCLUSIVE, forest_limit
from debiasctl.reporting.names import short_names
from debiasctl.reporting.panels import number_text
from debiasctl.reporting.study_data import ArmStyle, Effect, Panel, means_of

_MARKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEIGHT = 12
_BESIDE = 16  # columns beside a frame
_MOST = 72  # columns of a picture


def forest_text(effects: Sequence[Effect], *, reference: str, columns: int) -> str:
    """A line an effect: the interval as a bar, the difference as a dot on it, and the verdict.

    A dot is filled where there is a verdict. Better lies to the right; shading is the margin of equivalence.
    """
    metrics = list(dict.fromkeys(one.metric for one in effects))
    labels = dict(zip(metrics, short_names(metrics, longest=26), strict=True))
    arms = list(dict.fromkeys(one.arm for one in effects))
    names = dict(zip(arms, short_names(arms, longest=18), strict=True))
    left, middle = max(map(len, labels.values())), max(map(len, names.values()))
    last = max(len(one.word) for one in effects)
    bar = max(15, min(_MOST, columns - left - middle - last - 7)) // 2 * 2 + 1
    limit = forest_limit(effects)
    lines, before = [], ""
    for one in effects:
        label = labels[one.metric] if one.metric != before else ""
        before = one.metric
        mark = "*" if one.primary and label else " "
        lines.append(f"{label:<{left}}{mark} {names[one.arm]:<{middle}}  {_bar(one, bar, limit)}  {one.word}".rstrip())
    low, high = f"-{limit:.0f} %", f"+{limit:.0f} %"
    (name,) = short_names([reference], longest=min(18, max(5, bar - 2 * len(high) - 3)))
    scale = low.ljust(max(len(low) + 1, bar // 2 - len(name) // 2)) + name
    scale += high.rjust(max(len(high) + 1, bar - len(scale)))
    return "\n".join([*lines, f"{'':<{left + middle + 4}}{scale}"])


def _bar(one: Effect, columns: int, limit: float) -> str:
    def at(value: float) -> int:
        return min(columns - 1, max(0, round((value + limit) / (2 * limit) * (columns - 1))))

    marks = [" "] * columns
    if one.margin is not None:
        for place in range(at(-one.margin), at(one.margin) + 1):
            marks[place] = "░"
    marks[columns // 2] = "│"
    if one.value is None or not math.isfinite(one.value):
        return "".join(marks)
    if one.low is not None and one.high is not None:
        for place in range(at(one.low), at(one.high) + 1):
            marks[place] = "─"
        if one.low < -limit:
            marks[0] = "◀"
        if one.high > limit:
            marks[-1] = "▶"
    if abs(one.value) <= limit:
        marks[at(one.value)] = "●" if one.word in CONCLUSIVE else "○"
    return "".join(marks)


def curves_text(panel: Panel, arms: Sequence[ArmStyle], *, columns: int) -> str:
    """The means of all arms over their seeds in one frame, each with a letter at its points."""
    import plotille

    figure = plotille.Figure()
    figure.width, figure.height = max(20, min(_MOST, columns - _BESIDE)), _HEIGHT
    figure.with_colors, figure.origin = False, False
    several = any(mean.num > 1 for arm in arms for mean in means_of(panel, arm.name))
    figure.x_label, figure.y_label = panel.x_label, "mean over seeds" if several else panel.y_label
    figure.x_ticks_fkt = lambda value, _: number_text(10**value if panel.x_log else value)
    figure.y_ticks_fkt = lambda value, _: f"{number_text(10**value if panel.y_log else value):>8}"
    named: list[str] = []
    across: list[float] = []
    for arm, mark in zip(arms, _MARKS, strict=False):
        means = means_of(panel, arm.name)
        if means:
            x = [math.log10(mean.x) if panel.x_log else mean.x for mean in means]
            y = [math.log10(mean.value) if panel.y_log else mean.value for mean in means]
            figure.plot(x, y)
            figure.scatter(x, y, marker=mark)
            named.append(f"{mark} {arm.label}")
            across += x
    if not named:
        return ""
    if max(across) > min(across):
        beyond = 0.02 * (max(across) - min(across))  # the frame would leave out the last mark
        figure.set_x_limits(min_=min(across), max_=max(across) + beyond)
    return "\n".join([panel.title, str(figure.show()), "   ".join(named)])
