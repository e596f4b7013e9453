"""The evaluations of several runs that can be drawn as one curve each."""

from collections.abc import Sequence

from debiasctl.comparison.evaluations import evaluations_of
from debiasctl.errors import ComparisonError
from debiasctl.evaluation.record import Conditions, EvaluationRecord
from debiasctl.runs.store import Run


def curve_records(runs: Sequence[Run], *, metric: str | None = None) -> list[EvaluationRecord]:
    """The evaluations that all runs share but for numbers of steps and checkpoints: the largest such set.

    With `metric`, they hold that one alone.

    Raises:
        ComparisonError: if there is no such set with two points of every run; a damaged record is reported likewise.
    """
    groups: dict[Conditions, dict[str, list[EvaluationRecord]]] = {}
    for run in runs:
        for record in (one.record for one in evaluations_of(run)):
            if isinstance(record, EvaluationRecord) and (metric is None or metric in record.metrics):
                alike = record.measured.model_copy(update={"steps": None})
                chosen = (
                    record
                    if metric is None
                    else record.model_copy(update={"metrics": {metric: record.metrics[metric]}})
                )
                groups.setdefault(alike, {}).setdefault(run.name, []).append(chosen)
    whole = [
        group for group in groups.values() if len(group) == len(runs) and all(len(of) > 1 for of in group.values())
    ]
    if not whole:
        raise ComparisonError(
            "there is nothing to draw as curves: measure every run with the same options by several numbers of steps, "
            f"or at several checkpoints, for example: debiasctl evaluate {runs[-1].typed} --steps 5,10,20,50"
        )
    largest = max(whole, key=lambda group: min(map(len, group.values())))
    return [record for run in runs for record in _latest(largest[run.name])]


def _latest(records: Sequence[EvaluationRecord]) -> list[EvaluationRecord]:
    """Of records of one checkpoint and number of steps, the one stored last."""
    return list({(record.checkpoint, record.measured.steps): record for record in records}.values())
