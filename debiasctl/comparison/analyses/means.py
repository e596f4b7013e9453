"""Means over training seeds of every figure and series of an analysis, and differences of arms, paired by seed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from debiasctl.analysis.record import Quantity, Series
from debiasctl.comparison.analyses.results import Entry, PartResult
from debiasctl.reporting.study_data import Mean, mean_of

LEVEL = 0.05
_NORMAL = 1.959963984540054
Over = Literal["seeds", "images", "runs"]


@dataclass(frozen=True)
class Figure:
    """A figure of an arm, or of a difference of arms: the mean over seeds with its 95 % t interval.

    Of one seed, or of seeds that have the same figure, it is that figure, with the interval over images that it was
    measured with, if it has one. A part that is made of all runs has its own interval over runs. A mean of p values has
    no interval.
    """

    name: str
    unit: str
    text: str
    value: float
    low: float | None
    high: float | None
    over: Over | None
    seeds: Mapping[int, float]

    def to_json(self) -> dict[str, JsonValue]:
        """Return it as it is printed."""
        return {
            "name": self.name, "value": self.value, "low": self.low, "high": self.high, "over": self.over,
            "unit": self.unit, "text": self.text,
            "seeds": [{"seed": seed, "value": value} for seed, value in self.seeds.items()],
        }  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """A series of an arm: at each x the mean over the seeds that have a value there."""

    name: str
    axis: str
    unit: str
    text: str
    means: Sequence[Mean]

    def to_json(self) -> dict[str, JsonValue]:
        """Return it as it is printed."""
        return {
            "name": self.name, "axis": self.axis, "unit": self.unit, "text": self.text,
            "x": [mean.x for mean in self.means], "value": [mean.value for mean in self.means],
            "low": [mean.low for mean in self.means], "high": [mean.high for mean in self.means],
            "num_seeds": [mean.num for mean in self.means],
        }  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """An arm's figures minus those of the arm that it is compared with, paired by the seeds that both have."""

    arm: str
    reference: str
    seeds: Sequence[int]
    figures: Sequence[Figure]


def figures_of(entries: Sequence[Entry]) -> list[Figure]:
    """The figures of one arm's records, in the order in which they were measured."""
    found: dict[str, dict[int, Quantity]] = {}
    for entry in entries:
        for quantity in entry.record.quantities:
            found.setdefault(quantity.name, {})[entry.seed] = quantity
    over: Over = "runs" if any(len(entry.record.others) > 1 for entry in entries) else "images"
    return [_figure(name, by_seed, over) for name, by_seed in found.items()]


def _figure(name: str, by_seed: Mapping[int, Quantity], over: Over) -> Figure:
    first = next(iter(by_seed.values()))
    values = {seed: quantity.value for seed, quantity in by_seed.items()}
    if len(set(values.values())) > 1:
        texts, mean = {quantity.text for quantity in by_seed.values()}, mean_of(list(values.values()))
        text = first.text if len(texts) == 1 else f"{first.text} (in seed {next(iter(by_seed))}; other seeds differ)"
        low, high = (None, None) if _is_p(name) else (mean.low, mean.high)  # a p value has no interval
        return Figure(name, first.unit, text, mean.value, low, high, None if low is None else "seeds", values)
    # what training does not change, such as a figure of the data, varies over images alone
    low, high = own_interval(first)
    return Figure(name, first.unit, first.text, first.value, low, high, None if low is None else over, values)


def _is_p(name: str) -> bool:
    return name.partition("[")[0].endswith("_p")


def own_interval(quantity: Quantity) -> tuple[float | None, float | None]:
    """The 95 % interval that a figure was measured with: its own, or the normal one of its standard error."""
    if quantity.low is not None:
        return quantity.low, quantity.high
    if quantity.se is None:
        return None, None
    return quantity.value - _NORMAL * quantity.se, quantity.value + _NORMAL * quantity.se


def curves_of(entries: Sequence[Entry]) -> list[Curve]:
    """The series of one arm's records, with means where every seed has a value."""
    found: dict[str, list[Series]] = {}
    for entry in entries:
        for series in entry.record.series:
            found.setdefault(series.name, []).append(series)
    return [_curve(of) for of in found.values()]


def _curve(of: Sequence[Series]) -> Curve:
    first = of[0]
    if len(of) == 1:
        return Curve(first.name, first.axis, first.unit, first.text, list(_own_points(first)))
    at: dict[float, list[float]] = {}
    for series in of:
        for x, value in zip(series.x, series.value, strict=True):
            if value is not None:
                at.setdefault(x, []).append(value)
    means = [mean_of(values, x=x) for x, values in at.items() if len(values) == len(of)]
    return Curve(first.name, first.axis, first.unit, first.text, means)


def _own_points(series: Series) -> Iterable[Mean]:
    none: list[float | None] = [None] * len(series.x)
    lows, highs, errors = series.low or none, series.high or none, series.se or none
    for x, value, low, high, se in zip(series.x, series.value, lows, highs, errors, strict=True):
        if value is None:
            continue
        if low is None and se is not None:
            low, high = value - _NORMAL * se, value + _NORMAL * se
        yield Mean(x, value, low, high, 1)


def differences_of(result: PartResult) -> list[Difference]:
    """Each arm's figures minus those of the first, over the seeds that both have; a part of two runs has none."""
    arms = result.arms
    if result.part.needs_other or result.part.needs_all or len(arms) < 2:
        return []
    reference, *others = arms
    base = {entry.seed: entry for entry in arms[reference]}
    found = []
    for name in others:
        pairs = [(entry, base[entry.seed]) for entry in arms[name] if entry.seed in base]
        if pairs:
            seeds = [entry.seed for entry, _ in pairs]
            found.append(Difference(name, reference, seeds, list(_apart(pairs))))
    return found


def _apart(pairs: Sequence[tuple[Entry, Entry]]) -> Iterable[Figure]:
    names = dict.fromkeys(
        quantity.name
        for entry, _ in pairs
        for quantity in entry.record.quantities
        if not _is_p(quantity.name)  # a difference of p values says nothing
    )
    for name in names:
        values: dict[int, float] = {}
        told: Quantity | None = None
        for entry, base in pairs:
            one, other = entry.record.quantity(name), base.record.quantity(name)
            if one is not None and other is not None:
                told, values[entry.seed] = one, one.value - other.value
        if told is None:
            continue
        mean = mean_of(list(values.values()))
        low, high = (None, None) if _spread_is_unknown(values) else (mean.low, mean.high)
        yield Figure(name, told.unit, told.text, mean.value, low, high, None if low is None else "seeds", values)


def _spread_is_unknown(seeds: Mapping[int, float]) -> bool:
    """Whether all seeds have one and the same figure other than 0, such as a count: their spread is not 0 for that."""
    values = list(seeds.values())
    return values[0] != 0 and max(values) - min(values) <= 1e-12 * max(map(abs, values))


def p_value(figure: Figure) -> float | None:
    """Of the mean over seeds being 0, by Student's t; None with fewer than two seeds, or none that differ."""
    values = list(figure.seeds.values())
    if len(values) < 2 or _spread_is_unknown(figure.seeds):
        return None
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    if deviation == 0:
        return 1.0
    from scipy.stats import t

    return float(2 * t.sf(abs(mean) / (deviation / math.sqrt(len(values))), len(values) - 1))


def told_apart(figures: Sequence[Figure]) -> list[Figure]:
    """The figures that differ from 0 by Holm's correction for their number, the clearest first."""
    found = sorted(((p, figure) for figure in figures if (p := p_value(figure)) is not None), key=lambda one: one[0])
    kept = []
    for number, (p, figure) in enumerate(found):
        if p > LEVEL / (len(found) - number):
            break
        kept.append(figure)
    return kept
