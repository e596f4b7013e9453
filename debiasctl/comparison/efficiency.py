"""Curves over checkpoints and sampling steps, and how much sooner an arm reaches a level than the reference does."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from debiasctl.comparison.matching import Index
from debiasctl.comparison.observations import ArmData, Measured, Observation
from debiasctl.comparison.statistics.speed_up import speed_up
from debiasctl.comparison.study_record import Efficiency, Line, Point, StudyCurve
from debiasctl.errors import ComparisonError, UsageError
from debiasctl.reading.user_text import whole_number
from debiasctl.wording import quoted

Axis = Literal["images_seen", "steps"]


def curves_of(arms: Sequence[ArmData], index: Index) -> list[StudyCurve]:
    """Each metric against images seen, and against sampling steps, where every arm has a seed with two points."""
    training: dict[tuple[Measured, str, bool], list[tuple[int, int, Observation]]] = {}
    sampling: dict[tuple[Measured, str, bool], list[tuple[int, int, Observation]]] = {}
    for (measured, metric, by_class), found in index.items():
        without = tuple(pair for pair in measured if pair[0] != "steps")
        for number, of_arm in found.items():
            for place, by_step in of_arm.items():
                for observations in by_step.values():
                    one = observations[-1]
                    training.setdefault((measured, metric, by_class), []).append((number, place, one))
                    sampling.setdefault((without, metric, by_class), []).append((number, place, one))
    curves = [_curve(arms, key, seen, "images_seen") for key, seen in training.items()]
    curves += [_curve(arms, key, _last(seen), "steps") for key, seen in sampling.items()]
    whole = [curve for curve in curves if curve is not None]
    keys = [curve.key for curve in whole]
    return [
        curve if keys.count(curve.key) == 1 else curve.model_copy(update={"key": f"{curve.key} ({number + 1})"})
        for number, curve in enumerate(whole)
    ]


def _last(seen: Sequence[tuple[int, int, Observation]]) -> list[tuple[int, int, Observation]]:
    """What was measured of each member's last checkpoint."""
    last: dict[tuple[int, int], int] = {}
    for number, place, one in seen:
        last[number, place] = max(last.get((number, place), -1), _checkpoint(one))
    return [(number, place, one) for number, place, one in seen if _checkpoint(one) == last[number, place]]


def _checkpoint(one: Observation) -> int:
    return -1 if one.checkpoint is None else one.checkpoint


def _curve(
    arms: Sequence[ArmData],
    key: tuple[Measured, str, bool],
    seen: Sequence[tuple[int, int, Observation]],
    axis: Axis,
) -> StudyCurve | None:
    measured, metric, _ = key
    lines: dict[tuple[int, int], dict[float, Point]] = {}
    corrected = all(one.figures[metric].corrected is not None for _, _, one in seen)
    for number, place, one in seen:
        x = one.images_seen if axis == "images_seen" else dict(one.measured).get("steps")
        if isinstance(x, int):
            figure = one.figures[metric]
            value = figure.corrected if corrected and figure.corrected is not None else figure.value
            point = Point(x=float(x), value=value, low=figure.low, high=figure.high)
            lines.setdefault((number, place), {})[point.x] = point
    long = {at: points for at, points in lines.items() if len(points) > 1}
    if {number for number, _ in long} != set(range(len(arms))):
        return None
    steps = dict(measured).get("steps")
    first = seen[0][2].figures[metric]
    return StudyCurve(
        key=f"{metric}@{steps} against images" if axis == "images_seen" else f"{metric} against steps",
        metric=metric,
        better=first.better,
        axis=axis,
        measured=dict(measured),
        lines=[
            Line(
                arm=arms[number].name,
                seed=arms[number].members[place].seed,
                points=[points[x] for x in sorted(points)],
            )
            for (number, place), points in sorted(long.items())
        ],
    )


def parse_levels(texts: Sequence[str]) -> dict[str, float]:
    """Levels, `metric=value` or `metric@steps=value`, declared beforehand.

    Raises:
        UsageError: if one is not of that form, or names a metric again.
    """
    levels: dict[str, float] = {}
    for text in texts:
        metric, equals, value = (part.strip() for part in text.partition("="))
        name, at, steps = metric.partition("@")
        try:
            level = float(value)
        except ValueError:
            level = math.nan
        if not name or not equals or not math.isfinite(level) or (at and not whole_number(steps)):
            raise UsageError(
                f"`level`: {quoted(text)} is not metric=value. Write for example `level=fd_local=0.5`, or "
                "`level=fd_local@10=0.5` for samples of 10 steps"
            )
        if levels.setdefault(metric, level) != level:
            raise UsageError(f"`level`: {metric} is given twice, as {levels[metric]:g} and {level:g}. Give one level")
    return levels


def check_levels(levels: Mapping[str, float], curves: Sequence[StudyCurve]) -> None:
    """Raise ComparisonError if there is no curve of what a level is declared for."""
    for name in levels:
        if any(name in _names(curve) for curve in curves):
            continue
        metric, at, steps = name.partition("@")
        if at:
            raise ComparisonError(
                f"a level of {name} is declared, and not every arm has a curve of {metric} over checkpoints, sampled "
                f"in {steps} steps. Measure every run so: debiasctl evaluate RUN --checkpoints all --steps {steps}"
            )
        raise ComparisonError(
            f"a level of {metric} is declared, and not every arm has a curve of it. Measure every run by several "
            "numbers of steps or at several checkpoints: debiasctl evaluate RUN --checkpoints all"
        )


def _names(curve: StudyCurve) -> tuple[str, ...]:
    """What a curve's level may be declared by, the closest first: a curve over checkpoints has its steps too."""
    steps = curve.measured.get("steps") if curve.axis == "images_seen" else None
    return (curve.metric,) if steps is None else (f"{curve.metric}@{steps}", curve.metric)


Points = dict[str, dict[int, list[tuple[float, float]]]]


def points_of(curve: StudyCurve) -> Points:
    """A curve's points by arm and seed."""
    found: Points = {}
    for line in curve.lines:
        found.setdefault(line.arm, {})[line.seed] = [(point.x, point.value) for point in line.points]
    return found


def efficiency_of(
    curves: Sequence[StudyCurve], levels: Mapping[str, float], *, arms: Sequence[str], reference: str
) -> list[Efficiency]:
    """The speed-up of every arm over the reference, by each curve for which a level is declared.

    A level of `metric` is one of all its curves; a level of `metric@steps` is one of its curve over checkpoints whose
    samples were drawn in so many steps, and goes before.

    Raises:
        ComparisonError: if there is no such curve, or closer to 0 is better in it.
    """
    check_levels(levels, curves)
    declared = [(curve, next((name for name in _names(curve) if name in levels), None)) for curve in curves]
    return [
        _efficiency(curve, levels[name], arm, reference)
        for curve, name in declared
        if name is not None
        for arm in arms
        if arm != reference
    ]


def _efficiency(curve: StudyCurve, level: float, arm: str, reference: str) -> Efficiency:
    if curve.better == "zero":
        raise ComparisonError(f"`level`: {curve.metric} has two sides. Declare a level of a metric that falls or rises")
    points = points_of(curve)
    found = speed_up(points[arm], points[reference], level=level, better=curve.better)
    crossings = {arm: found.crossings, reference: found.reference_crossings}
    return Efficiency(
        kind="training" if curve.axis == "images_seen" else "sampling",
        metric=curve.metric,
        level=level,
        curve=curve.key,
        arm=arm,
        reference=reference,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        at_least=found.bound == "at least",
        at_most=found.bound == "at most",
        reached={
            name: [None if one.bound == "at least" else one.x for _, one in sorted(of_arm.items())]
            for name, of_arm in crossings.items()
        },
        note=found.note,
    )
