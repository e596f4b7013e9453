"""Runs and checkpoints with held-out errors and a distance of their samples, read from what the runs store."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from debiasctl.api import Space
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.metrics.catalogue import LOWER, ZERO, direction
from debiasctl.evaluation.primary import default_metric
from debiasctl.evaluation.record import EvaluationRecord, read_own_record
from debiasctl.reading.user_text import whole_number
from debiasctl.runs.records import Edge, HeldoutRecord, MonitorRecord
from debiasctl.runs.store import Run, read_metrics
from debiasctl.specs.sections import RunSpec
from debiasctl.wording import did_you_mean, quoted

STEPS = 50  # the usual number of sampling steps
Bounds = tuple[Edge, Edge]
Errors = dict[Bounds, dict[Space, float]]


@dataclass(frozen=True)
class Point:
    """A run after `step` steps: its held-out errors by bin, and the figure of its samples (the lower, the better).

    The errors are `interpolated` where none were measured at that step itself.
    """

    run: int
    step: int
    images: int
    errors: Errors
    figure: float
    interpolated: bool


@dataclass(frozen=True)
class Found:
    """The points, and how their figures were measured: the metric, its sampling steps, and the rest in words."""

    metric: str
    steps: int | None
    conditions: str
    points: list[Point]


@dataclass(frozen=True)
class _Figure:
    """A run's figure at a step, and what must be equal for it to be comparable with others'."""

    run: int
    step: int
    metric: str
    steps: int | None
    weights: str | None
    conditions: str
    value: float


def gather(runs: Sequence[Run], specs: Sequence[RunSpec], *, metric: str | None) -> Found:
    """The points of all runs, of the largest set of figures that were measured alike; `metric` may name `metric@steps`.

    Figures are those of stored evaluations, or of the monitor during training. Sampling seeds may differ.

    Raises:
        UsageError: if there are none, or the metric was not measured.
        RunError, EvaluationError: if what a run stores cannot be read, or is damaged.
    """
    heldout, figures = [], []
    for number, run in enumerate(runs):
        records = read_metrics(run)
        heldout.append([one for one in records if isinstance(one, HeldoutRecord) and one.bins])
        figures += list(_stored(run, number))
        figures += [
            one for record in records if isinstance(record, MonitorRecord) for one in _monitored(record, number)
        ]
    datasets = list(dict.fromkeys(spec.data.dataset.name for spec in specs))
    chosen = _of_metric(figures, metric, datasets, runs)
    groups: dict[tuple[str, int | None, str], dict[tuple[int, int], Point]] = {}
    for one in chosen:
        point = _point(one, heldout[one.run], specs[one.run].training.batch_size)
        if point is not None:
            groups.setdefault((one.metric, one.steps, one.conditions), {})[one.run, one.step] = point
    if not groups:
        raise UsageError(
            f"none of the figures of {chosen[0].metric} is of a checkpoint with held-out errors. Train with "
            "`training.heldout_every` at the steps that are evaluated, or evaluate checkpoints between its steps"
        )
    (name, steps, conditions), points = max(groups.items(), key=_preference)
    return Found(name, steps, conditions, [points[key] for key in sorted(points)])


def _preference(group: tuple[tuple[str, int | None, str], dict[tuple[int, int], Point]]) -> tuple[int, int, float]:
    (_, steps, _), points = group
    return len({run for run, _ in points}), len(points), -abs((steps or STEPS) - STEPS)


def _of_metric(
    figures: Sequence[_Figure], metric: str | None, datasets: Sequence[str], runs: Sequence[Run]
) -> list[_Figure]:
    names = list(dict.fromkeys(one.metric for one in figures))
    if not names:
        raise UsageError(
            "no run has figures of its samples to compare held-out errors with. Measure them at several checkpoints: "
            f"debiasctl evaluate {runs[0].typed}; or train with `monitor.every`"
        )
    if metric is None:
        name, steps = default_metric(names, datasets), None
    else:
        name, at, text = metric.strip().partition("@")
        steps = whole_number(text) if at else None
        if at and steps is None:
            raise UsageError(f"`metric={metric}`: write metric@steps, for example {names[0]}@{STEPS}")
    found = [one for one in figures if one.metric == name and steps in (None, one.steps)]
    if found:
        return found
    if name in names:
        counts = ", ".join(map(str, sorted({one.steps for one in figures if one.metric == name and one.steps})))
        raise UsageError(f"`metric={metric}`: {name} was measured at {counts} sampling steps alone")
    raise UsageError(
        f"`metric={metric}`: no run has the metric {quoted(name)}.{did_you_mean(name, names)} Measured: "
        f"{', '.join(names)}"
    )


def _stored(run: Run, number: int) -> Iterator[_Figure]:
    way_on = f"Remove it and measure again: debiasctl evaluate {run.typed}"
    files = [run.evaluations_dir / f"{key}.json" for key in run.evaluation_keys()]
    for path in sorted(files, key=lambda one: one.stat().st_mtime_ns):  # later ones replace earlier ones
        record = read_own_record(path, run, way_on=way_on)
        if not isinstance(record, EvaluationRecord):
            continue
        if record.checkpoint is None:
            raise EvaluationError(f"{path} is damaged (checkpoint: it does not belong to a run). {way_on}")
        measured = record.measured
        alike = (
            f"{measured.num} images by {measured.sampler} against {measured.reference_num or 'all'} of "
            f"{measured.reference}, features {measured.features_identity[:12]}, data {measured.dataset_hash[:12]}, "
            f"class {measured.label}, {measured.precision}"
            + ("" if measured.guide is None else f", guide {measured.guide} {measured.guide_sha256}")
        )
        for name, figure in record.metrics.items():
            yield _Figure(number, record.checkpoint, name, measured.steps, measured.weights, alike,
                          _lower_is_better(name, figure.value))  # fmt: skip


def _monitored(record: MonitorRecord, number: int) -> Iterator[_Figure]:
    alike = f"{record.num} images by {record.sampler}, measured during training"
    for name, value in record.metrics.items():
        yield _Figure(number, record.step, name, record.steps, record.weights, alike, _lower_is_better(name, value))


def _lower_is_better(name: str, value: float) -> float:
    better = direction(name)
    return value if better == LOWER else abs(value) if better == ZERO else -value


def _point(figure: _Figure, records: Sequence[HeldoutRecord], batch_size: int) -> Point | None:
    """A figure with the held-out errors of the same weights at its step, if there are any."""
    alike = [one for one in records if one.weights == figure.weights]
    before = [one for one in alike if one.step <= figure.step]
    after = [one for one in alike if one.step >= figure.step]
    if not before or not after:
        return None
    first, last = before[-1], after[0]
    part = 0.0 if first.step == last.step else (figure.step - first.step) / (last.step - first.step)
    errors = _between(_errors(first), _errors(last), part)
    images = figure.step * batch_size
    return Point(figure.run, figure.step, images, errors, figure.value, first.step != last.step)


def _errors(record: HeldoutRecord) -> Errors:
    found: Errors = {}
    for one in record.bins:
        units: dict[Space, float | None] = {"eps": one.eps, "x0": one.x0, "v": one.v, "flow": one.flow}
        found[one.log_snr] = {unit: value for unit, value in units.items() if value is not None}
    return found


def _between(first: Errors, last: Errors, part: float) -> Errors:
    """The errors a part of the way from the one measurement to the other, linear in their logarithms."""
    if not part:
        return first
    return {
        bounds: {
            unit: math.exp((1 - part) * math.log(one) + part * math.log(last[bounds][unit]))
            if one > 0 and last[bounds][unit] > 0
            else (1 - part) * one + part * last[bounds][unit]
            for unit, one in errors.items()
            if unit in last[bounds]
        }
        for bounds, errors in first.items()
        if bounds in last
    }
