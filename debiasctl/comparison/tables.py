"""Runs side by side: what differs in their specs, and those figures that were measured in the same way."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from debiasctl.errors import ComparisonError, UsageError
from debiasctl.evaluation.uncertainty.intervals import SHARE_METHOD, Interval, Jackknife, difference_interval
from debiasctl.registry.messages import did_you_mean
from debiasctl.runs.store import Run
from debiasctl.specs.files import flatten
from debiasctl.specs.sections import MonitorSection, RunSpec

_MEASURED = ("sampler", "steps", "num", "seed", "weights", "features")  # conditions that tables show
_DESCRIPTIVE = ("provenance", "schema_version")  # sections that decide nothing of what is trained


@dataclass(frozen=True)
class Figure:
    """One metric under one measurement: a value for each run, differences to the first, and the best run's index.

    `intervals` are those of the differences (95 %, of what infinitely many images would give), None for the first run
    and where one of the two figures has none. `checkpoints` are the steps that were measured. The floor and
    `values_at_floor_num` were measured on `floor_num` images.
    """

    metric: str
    measured: dict[str, Any]
    better: str
    values: list[float]
    differences: list[float]
    intervals: list[Interval | None]
    best: int | None
    checkpoints: list[int]
    floor: float | None
    floor_num: int
    values_at_floor_num: list[float | None]


@dataclass(frozen=True)
class Comparison:
    """`differences`: spec field -> one value a run. `checkpoints`: for each run, the steps at which it was measured.

    `notes` say what a reader of the figures must know: checkpoints that are not the last, or differ between runs.
    """

    runs: list[str]
    differences: dict[str, list[Any]]
    checkpoints: list[list[int]]
    figures: list[Figure]
    notes: list[str]


def compare(runs: Sequence[Run], *, metric: str | None = None) -> Comparison:
    """Compare runs: what differs in their specs, and in the figures that were measured alike.

    Raises:
        UsageError: if there are fewer than two runs, a run is given twice, or the metric is unknown.
        ComparisonError: if a run has no evaluation, or none by that metric, or no figure was measured in the same way
        for all of them.
    """
    if len(runs) < 2 or len({run.path.resolve() for run in runs}) < len(runs):
        raise UsageError("name two or more different runs: debiasctl compare RUN RUN")
    specs = [run.spec() for run in runs]
    records = [_evaluations(run) for run in runs]
    known = sorted({name for of_run in records for record in of_run for name in record["metrics"]})
    if metric is not None and metric not in known:
        raise UsageError(
            f"unknown metric '{metric}'.{did_you_mean(metric, known)} These runs were measured by: {', '.join(known)}"
        )
    for run, of_run in zip(runs, records, strict=True):
        if metric is not None and not any(metric in record["metrics"] for record in of_run):
            raise ComparisonError(
                f"run '{run.name}' was not measured by '{metric}'. Do that first, with the options of the other runs, "
                f"for example: `evaluate({run.name!r}, metrics={metric!r})`"
            )
    tables = [_by_measurement(of_run, metric) for of_run in records]
    shared = [key for key in tables[0] if all(key in table for table in tables[1:])]
    if not shared:
        raise ComparisonError(_not_comparable(runs, records, metric))
    chosen = [[table[key] for key in shared] for table in tables]
    checkpoints = [sorted({int(record["checkpoint"]) for record in of_run}) for of_run in chosen]
    return Comparison(
        runs=[run.name for run in runs],
        differences=spec_differences(specs),
        checkpoints=checkpoints,
        figures=[_figure(key[1], [table[key] for table in tables]) for key in shared],
        notes=_notes(runs, checkpoints),
    )


def _notes(runs: Sequence[Run], checkpoints: Sequence[Sequence[int]]) -> list[str]:
    notes = [
        f"'{run.name}' was measured at step {', '.join(map(str, steps))} and has since been "
        f"trained to step {run.checkpoint_steps()[-1]}: debiasctl evaluate {run.name}"
        for run, steps in zip(runs, checkpoints, strict=True)
        if run.checkpoint_steps() and run.checkpoint_steps()[-1] > steps[0]
    ]
    if any(steps != checkpoints[0] for steps in checkpoints[1:]):
        notes.append("the runs were measured after different numbers of training steps; see 'checkpoint'")
    return notes


def spec_differences(specs: Sequence[RunSpec]) -> dict[str, list[Any]]:
    """`section.field` -> the value in each spec, for fields that are not equal in all of them; None: it has none."""
    hidden: dict[str, bool | set[str]] = dict.fromkeys(_DESCRIPTIVE, True)
    if any(spec.monitor is None for spec in specs):  # beside a run without one, what a monitor does is no difference
        hidden["monitor"] = set(MonitorSection.model_fields) - {"every"}
    flat = [flatten(spec.model_dump(mode="json", exclude=hidden)) for spec in specs]
    fields = list(dict.fromkeys(field for one in flat for field in one))
    return {
        field: [one.get(field) for one in flat]
        for field in fields
        if any(one.get(field) != flat[0].get(field) for one in flat[1:])
    }


def _evaluations(run: Run) -> list[dict[str, Any]]:
    """A run's stored evaluations, oldest first; later ones replace earlier ones of the same measurement."""
    files = sorted(run.evaluations_dir.glob("[!.]*.json"), key=lambda path: path.stat().st_mtime_ns)
    records = []
    for path in files:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            _check(record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ComparisonError(
                f"{path} is damaged ({error}). Remove it and measure again: debiasctl evaluate {run.name}"
            ) from error
        records.append(record)
    if not records:
        raise ComparisonError(f"run '{run.name}' has not been evaluated. Do that first: debiasctl evaluate {run.name}")
    return records


def _check(record: Any) -> None:
    """Raise KeyError, TypeError, ValueError or AttributeError unless an evaluation holds what is read of it."""
    int(record["checkpoint"])
    for field in _MEASURED:
        record["measured"][field]
    for figure in record["metrics"].values():
        float(figure["value"])
        _interval(figure, figure)
        for field in ("better", "floor", "floor_num"):
            figure[field]


def _by_measurement(records: Sequence[dict[str, Any]], metric: str | None) -> dict[tuple[str, str], dict[str, Any]]:
    """(how it was measured, metric) -> the record; the one trained longest where several checkpoints were measured."""
    table: dict[tuple[str, str], dict[str, Any]] = {}
    for record in sorted(records, key=lambda record: int(record["checkpoint"])):
        for name in record["metrics"]:
            if metric in (None, name):
                table[json.dumps(record["measured"], sort_keys=True), name] = record
    return table


def _figure(metric: str, records: Sequence[dict[str, Any]]) -> Figure:
    found = [record["metrics"][metric] for record in records]
    values = [float(one["value"]) for one in found]
    better = found[0]["better"]
    distances = (
        values if better == "lower" else [-value for value in values] if better == "higher" else list(map(abs, values))
    )
    lowest = min(distances)
    return Figure(
        metric=metric,
        measured=records[0]["measured"],
        better=better,
        values=values,
        differences=[value - values[0] for value in values],
        intervals=[None, *(_interval(found[0], one) for one in found[1:])],
        best=distances.index(lowest) if distances.count(lowest) == 1 else None,
        checkpoints=[int(record["checkpoint"]) for record in records],
        floor=found[0]["floor"],
        floor_num=found[0]["floor_num"],
        values_at_floor_num=[one.get("value_at_floor_num") for one in found],
    )


def _interval(first: Mapping[str, Any], second: Mapping[str, Any]) -> Interval | None:
    """The interval of two figures' difference; None where one has no interval, or both are shares of 0 or 1."""
    intervals = [one["interval"] for one in (first, second) if one.get("interval")]
    if len(intervals) < 2:
        return None
    kept = [Jackknife(**interval["jackknife"]) for interval in intervals]
    if all(len(set(one.pseudo_values)) == 1 for one in kept) and intervals[0].get("method") == SHARE_METHOD:
        return None
    return difference_interval(*kept)


def _not_comparable(runs: Sequence[Run], records: Sequence[Sequence[dict[str, Any]]], metric: str | None) -> str:
    """Which conditions of measurement make the runs' figures incomparable."""
    values: dict[str, list[set[str]]] = {}
    for of_run in records:
        kept = [record for record in of_run if metric is None or metric in record["metrics"]]
        for field in of_run[0]["measured"]:
            values.setdefault(field, []).append({str(record["measured"].get(field)) for record in kept})
    apart = {field: sets for field, sets in values.items() if len(sets) == len(runs) and not set.intersection(*sets)}
    if not apart:
        return (
            f"no {metric or 'figure'} of these runs was measured in the same way for all of them. "
            f"Evaluate each with the same options, for example: `evaluate({runs[-1].name!r}, steps=50)`"
        )
    details = "; ".join(
        f"{field}: " + ", ".join(f"{run.name} {_some(of_run)}" for run, of_run in zip(runs, sets, strict=True))
        for field, sets in apart.items()
    )
    return (
        f"the figures of these runs were measured differently and cannot be compared ({details}). "
        "Evaluate each with the same options"
    )


def _some(values: set[str]) -> str:
    shown = sorted(value if len(value) <= 20 else f"{value[:12]}…" for value in values)
    return "|".join(shown[:4]) or "none"
