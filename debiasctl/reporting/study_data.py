"""What the pictures of a study are drawn from, as plain data, and the means over seeds with their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from debiasctl.reporting.names import short_names
from debiasctl.reporting.style import styles

LEVEL = 0.95
_LONGEST = 30  # letters of an arm's name in a picture
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")


@dataclass(frozen=True)
class ArmStyle:
    """An arm as it is drawn: its short name, its colour, and what tells it from others of that colour.

    That is a line style in curves, and a marker where there are points alone.
    """

    name: str
    label: str
    colour: str
    dashes: Any
    marker: str = "o"


def arm_styles(names: Sequence[str], weightings: Sequence[str] | None = None) -> list[ArmStyle]:
    """The styles of all arms; an arm has its weighting's colour, by its reference, where one is given."""
    labels = short_names(names, longest=_LONGEST)
    drawn = styles(_distinct(names if weightings is None else weightings))
    found: list[ArmStyle] = []
    for name, label, (colour, dashes) in zip(names, labels, drawn, strict=True):
        number = sum(one.colour == colour for one in found)
        found.append(ArmStyle(name, label, colour, dashes, _MARKERS[number % len(_MARKERS)]))
    return found


def _distinct(references: Sequence[str]) -> list[str]:
    """References of which no two are equal, for arms that differ in other things."""
    found: list[str] = []
    for text in references:
        candidate, number = text, 2
        while candidate in found:
            candidate, number = f"{text}:{number}", number + 1
        found.append(candidate)
    return found


@dataclass(frozen=True)
class SeedLine:
    """One seed's curve of an arm."""

    arm: str
    seed: int
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Panel:
    """One panel of curves: `level` is a line that all curves are measured by, such as that of real images."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[SeedLine]
    x_log: bool = False
    y_log: bool = False
    x_falls: bool = False
    level: float | None = None
    level_label: str = ""
    strong: bool = False  # whether the title is bold


class Bounded(NamedTuple):
    """A figure with the limits of its interval, if it has any."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Mean:
    """The mean over `num` seeds at `x`, and its 95 % interval, which one seed does not have."""

    x: float
    value: float
    low: float | None
    high: float | None
    num: int


def mean_of(values: Sequence[float], *, x: float = 0.0, log: bool = False) -> Mean:
    """The mean with its Student's t interval; with `log`, those of the logarithms of positive values."""
    if log:
        found = mean_of([math.log(value) for value in values], x=x)
        ends = [None if end is None else math.exp(min(end, 700.0)) for end in (found.low, found.high)]
        return Mean(x, math.exp(found.value), ends[0], ends[1], found.num)
    num = len(values)
    mean = math.fsum(values) / num
    if num < 2:
        return Mean(x, mean, None, None, num)
    from scipy.stats import t

    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (num - 1))
    half = float(t.ppf((1 + LEVEL) / 2, num - 1)) * deviation / math.sqrt(num)
    return Mean(x, mean, mean - half, mean + half, num)


def means_of(panel: Panel, arm: str) -> list[Mean]:
    """An arm's means over seeds, in the order of x; a value that cannot be drawn is left out."""
    found: dict[float, list[float]] = {}
    for line in panel.lines:
        if line.arm == arm:
            for x, y in zip(line.x, line.y, strict=True):
                if math.isfinite(x) and math.isfinite(y) and (y > 0 or not panel.y_log) and (x > 0 or not panel.x_log):
                    found.setdefault(float(x), []).append(float(y))
    return [mean_of(found[x], x=x, log=panel.y_log) for x in sorted(found)]


def curves_json(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """What `draw_curves` draws, as JSON: each seed's line, and each arm's means."""
    return [
        {
            "title": panel.title,
            "x": panel.x_label,
            "y": panel.y_label,
            "lines": [
                {"arm": line.arm, "seed": line.seed, "x": list(line.x), "y": list(line.y)} for line in panel.lines
            ],
            "means": [
                {"arm": arm, "x": mean.x, "mean": mean.value, "low": mean.low, "high": mean.high, "seeds": mean.num}
                for arm in dict.fromkeys(line.arm for line in panel.lines)
                for mean in means_of(panel, arm)
            ],
            **({} if panel.level is None else {"level": panel.level, "level_label": panel.level_label}),
        }
        for panel in panels
    ]


@dataclass(frozen=True)
class Effect:
    """An arm's difference from the reference in one metric, in percent of the reference's figure; positive: better.

    `margin` is that of equivalence, in percent too. `value` is None where there is no difference to draw.
    """

    metric: str
    arm: str
    value: float | None
    low: float | None
    high: float | None
    margin: float | None
    word: str
    primary: bool = False


@dataclass(frozen=True)
class Dots:
    """One figure of every seed of an arm, in the column `group` of the panel `panel`."""

    panel: str
    group: str
    arm: str
    values: Sequence[float]
