"""Runs side by side: what differs in their specs, and those figures that were measured in the same way."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import JsonValue

from debiasctl.comparison.arms import alike, known_settings
from debiasctl.comparison.differences import best, difference, missing_reason
from debiasctl.comparison.evaluations import Evaluation, Reader, evaluations_of
from debiasctl.comparison.remeasure import measuring_command
from debiasctl.comparison.statistics.multiplicity import holm
from debiasctl.errors import ComparisonError, UsageError
from debiasctl.evaluation.metrics.catalogue import is_of_pixels
from debiasctl.evaluation.plausibility import Warned, together, warnings
from debiasctl.evaluation.record import (
    BitsFigure,
    Conditions,
    EvaluationRecord,
    HeldoutConditions,
    MetricFigure,
)
from debiasctl.evaluation.uncertainty.intervals import LEVEL, Interval
from debiasctl.runs.store import Run
from debiasctl.specs.files import flatten
from debiasctl.specs.sections import MonitorSection, RunSpec
from debiasctl.wording import did_you_mean

_DESCRIPTIVE = ("provenance", "schema_version", "imported")  # sections that do not affect training
Measured = Conditions | HeldoutConditions


@dataclass(frozen=True)
class Figure:
    """One metric under one measurement: a value for each run, differences to the first, and the best run's index.

    `intervals` are those of the differences (95 %, of what infinitely many images would give, so that their estimate is
    not the difference of the values), None for the first run and where one of the two figures has none. `best` is None
    unless that run's images differ from all others' beyond chance, by Holm's method over the table: it says nothing of
    other training seeds. `checkpoints` are the steps
    that were measured. The floor and `values_at_floor_num` were measured on `floor_num` images.
    """

    metric: str
    measured: Measured
    better: str
    values: list[float]
    differences: list[float]
    intervals: list[Interval | None]
    interval_reasons: list[str | None]
    best: int | None
    checkpoints: list[int]
    floor: float | None
    floor_num: int
    values_at_floor_num: list[float | None]

    def to_json(self) -> dict[str, JsonValue]:
        """As it is printed."""
        return asdict(self) | {"measured": self.measured.to_json()}


@dataclass(frozen=True)
class Comparison:
    """`differences`: spec field -> one value a run. `checkpoints`: for each run, the steps at which it was measured.

    `notes` say what a reader of the figures must know: checkpoints that are not the last, or differ between runs.
    `warnings` name runs whose images are not near working samples, or are the reference's own.
    """

    runs: list[str]
    differences: dict[str, list[Any]]
    checkpoints: list[list[int]]
    figures: list[Figure]
    notes: list[str]
    warnings: list[str]

    def to_json(self) -> dict[str, JsonValue]:
        """As it is printed."""
        return asdict(self) | {"figures": [figure.to_json() for figure in self.figures]}


def compare(runs: Sequence[Run], *, metric: str | None = None, reader: Reader | None = None) -> Comparison:
    """Compare runs: what differs in their specs, and in the figures that were measured alike.

    Raises:
        UsageError: if there are fewer than two runs, a run is given twice, or the metric is unknown.
        ComparisonError: if a run has no evaluation, or none by that metric, or no figure was measured in the same way
        for all of them.
    """
    if len(runs) < 2 or len({run.path.resolve() for run in runs}) < len(runs):
        raise UsageError("name two or more different runs: debiasctl compare RUN RUN")
    specs = [run.spec() for run in runs]
    read = evaluations_of if reader is None else reader
    records = [read(run) for run in runs]
    known = sorted({name for of_run in records for one in of_run for name in one.record.metrics})
    if metric is not None and metric not in known:
        raise UsageError(
            f"unknown metric '{metric}'.{did_you_mean(metric, known)} These runs were measured by: {', '.join(known)}"
        )
    for run, of_run in zip(runs, records, strict=True):
        if metric is not None and not any(metric in one.record.metrics for one in of_run):
            raise ComparisonError(
                f"run '{run.name}' was not measured by '{metric}'. Do that first, with the options of the other runs, "
                "for example: " + measuring_command(run, metric, [one for of_run in records for one in of_run])
            )
    tables, shared = _in_common(records, metric)
    if not shared:
        raise ComparisonError(_not_comparable(runs, records, metric))
    chosen = [[table[key] for key in shared] for table in tables]
    checkpoints = [sorted({one.checkpoint for one in of_run}) for of_run in chosen]
    leaders = [best([table[key].record.metrics[key[1]] for table in tables]) for key in shared]
    tested = [number for number, (index, _) in enumerate(leaders) if index is not None]
    corrected = dict(zip(tested, holm([leaders[number][1] for number in tested]), strict=True))
    held = {number: p is not None and p <= 1 - LEVEL for number, p in corrected.items()}
    figures = [
        _figure(key, [table[key] for table in tables], best=leaders[number][0] if held.get(number) else None)
        for number, key in enumerate(shared)
    ]
    return Comparison(
        runs=[run.name for run in runs],
        differences=spec_differences(specs),
        checkpoints=checkpoints,
        figures=figures,
        notes=[*_notes(runs, specs, checkpoints), *_left_out(tables, shared), *_by_chance(figures)],
        warnings=together([(run.name, _warnings(of_run)) for run, of_run in zip(runs, chosen, strict=True)]),
    )


def _left_out(tables: "Sequence[_Table]", shared: "Sequence[_Key]") -> list[str]:
    """A note on kernel distances that are by class in one run and not in another."""
    names = {key[1] for table in tables for key in table} - {key[1] for key in shared}
    apart = [
        name
        for name in sorted(names)
        if all(any(key[1] == name for key in table) for table in tables)
        and {key[:2] for key in tables[0]}.intersection(*({key[:2] for key in table} for table in tables[1:]))
        and len({key[2] for table in tables for key in table if key[1] == name}) > 1
    ]
    return [f"{name}: an older version computed it without classes; evaluate those runs again" for name in apart]


def _by_chance(figures: "Sequence[Figure]") -> list[str]:
    """A note on how many intervals leave out 0, and how many would by chance."""
    intervals = [one for figure in figures for one in figure.intervals if one is not None]
    if len(intervals) < 2:
        return []
    leaving = sum(not one.low <= 0 <= one.high for one in intervals)
    return [
        f"{leaving} of {len(intervals)} intervals leave out 0. Each holds by itself in 95 % of cases: where no run "
        f"differs, {0.05 * len(intervals):.2g} of {len(intervals)} leave it out on average, and one in three tables "
        "of 10 metrics has such an interval. They are of these sets of images: another training seed may reverse them"
    ]


def _warnings(evaluations: Sequence[Evaluation]) -> list[Warned]:
    """The warnings of a run's records."""
    records = {id(one.record): one.record for one in evaluations}.values()
    return [one for record in records if isinstance(record, EvaluationRecord) for one in warnings(record)]


def _notes(runs: Sequence[Run], specs: Sequence[RunSpec], checkpoints: Sequence[Sequence[int]]) -> list[str]:
    notes = [
        f"'{run.name}' was measured at step {', '.join(map(str, steps))} and has since been "
        f"trained to step {run.checkpoint_steps()[-1]}: debiasctl evaluate {run.typed}"
        for run, steps in zip(runs, checkpoints, strict=True)
        if run.checkpoint_steps() and run.checkpoint_steps()[-1] > steps[0]
    ]
    notes += [
        f"'{run.name}' failed at step {run.status().step}: {run.status().message or 'no reason was stored'}"
        for run in runs
        if run.status().state == "failed"
    ]
    trained = [steps for spec, steps in zip(specs, checkpoints, strict=True) if spec.imported is None]
    if any(steps != trained[0] for steps in trained[1:]):
        notes.append("the runs were measured after different numbers of training steps; see 'checkpoint'")
    return notes


def spec_differences(specs: Sequence[RunSpec]) -> dict[str, list[Any]]:
    """`section.field` -> the value in each spec, for fields that are not equal in all of them; None: it has none.

    That a plugin takes no options, where another one does, is no difference of its own.
    """
    hidden: dict[str, bool | set[str]] = dict.fromkeys(_DESCRIPTIVE, True)
    if any(spec.monitor is None for spec in specs):  # beside a run without one, what a monitor does is no difference
        hidden["monitor"] = set(MonitorSection.model_fields) - {"every"}
    flat = [known_settings(spec, flatten(_extended(spec.model_dump(mode="json", exclude=hidden)))) for spec in specs]
    fields = list(dict.fromkeys(field for one in flat for field in one))
    return {
        field: [one.get(field) for one in flat]
        for field in fields
        if not alike(field, flat) and any(one.get(field) not in (None, {}, []) for one in flat)
    }


def _extended(dumped: dict[str, Any]) -> dict[str, Any]:
    """The settings with extensions by their names, so that only the options in which they differ are listed."""
    choices = dumped["extensions"]
    named = {choice["name"]: choice["options"] or "without options" for choice in choices}
    return {**dumped, "extensions": named if len(named) == len(choices) else choices}


def _by_measurement(evaluations: Sequence[Evaluation], metric: str | None, *, seeds: bool) -> "_Table":
    """(how it was measured, metric, by class) -> the record; the one trained longest of several checkpoints.

    What is measured of the pixels themselves is the same in all features, and stands once. Without `seeds`, it does not
    matter which seed images were drawn with.
    """
    table: _Table = {}
    for one in sorted(evaluations, key=lambda one: one.checkpoint):
        for name, figure in one.record.metrics.items():
            if metric not in (None, name):
                continue
            measured = one.record.measured
            if isinstance(measured, Conditions) and is_of_pixels(name):
                measured = measured.model_copy(update={"features": "none", "features_identity": "none"})
            if isinstance(measured, Conditions) and not seeds:
                measured = measured.model_copy(update={"seed": None})
            table[measured, name, isinstance(figure, MetricFigure) and figure.by_class] = one
    return table


def _in_common(records: Sequence[Sequence[Evaluation]], metric: str | None) -> "tuple[list[_Table], list[_Key]]":
    """All runs' tables, and the keys that they share.

    Images drawn with one seed in all runs are preferred. Where there are none, those of different seeds are compared,
    as each run is sampled with its training seed.
    """
    tables = [_by_measurement(of_run, metric, seeds=True) for of_run in records]
    shared = [key for key in tables[0] if all(key in table for table in tables[1:])]
    known = {(key[0].model_copy(update={"seed": None}), *key[1:]) for key in shared if isinstance(key[0], Conditions)}
    others = [_by_measurement(of_run, metric, seeds=False) for of_run in records]
    more = [key for key in others[0] if key not in known and all(key in table for table in others[1:])]
    more = [key for key in more if isinstance(key[0], Conditions)]
    for table, other in zip(tables, others, strict=True):
        table.update({key: other[key] for key in more})
    return tables, [*shared, *more]


_Key = tuple[Measured, str, bool]
_Table = dict[_Key, Evaluation]


def _figure(key: _Key, evaluations: Sequence[Evaluation], *, best: int | None) -> Figure:
    found: list[MetricFigure | BitsFigure] = [one.record.metrics[key[1]] for one in evaluations]
    values = [one.value for one in found]
    return Figure(
        metric=key[1],
        measured=key[0],
        better=found[0].better,
        values=values,
        differences=[value - values[0] for value in values],
        intervals=[None, *(difference(found[0], one) for one in found[1:])],
        interval_reasons=[None, *(missing_reason(found[0], one) for one in found[1:])],
        best=best,
        checkpoints=[one.checkpoint for one in evaluations],
        floor=found[0].floor,
        floor_num=found[0].floor_num,
        values_at_floor_num=[one.value_at_floor_num for one in found],
    )


def _not_comparable(runs: Sequence[Run], records: Sequence[Sequence[Evaluation]], metric: str | None) -> str:
    """Which conditions of measurement make the runs' figures incomparable."""
    values: dict[str, list[set[str]]] = {}
    for of_run in records:
        kept = [one.record.measured.to_json() for one in of_run if metric is None or metric in one.record.metrics]
        for field in of_run[0].record.measured.to_json():
            values.setdefault(field, []).append({str(measured.get(field)) for measured in kept})
    apart = {field: sets for field, sets in values.items() if len(sets) == len(runs) and not set.intersection(*sets)}
    if not apart:
        return (
            f"no {metric or 'figure'} of these runs was measured in the same way for all of them. "
            "Evaluate each with the same options"
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
