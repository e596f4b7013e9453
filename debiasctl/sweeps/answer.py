"""What a sweep says so far: the comparison of its arms by the runs that are done."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from debiasctl.errors import DebiasctlError
from debiasctl.files import write_json
from debiasctl.sweeps.progress import RunProgress
from debiasctl.sweeps.store import STUDY, StoredSweep, Sweep

if TYPE_CHECKING:
    from debiasctl.comparison.study_record import Study

# of a study and its runs' names: the command that makes it again, and that for a picture of some name
Commands = Callable[["Study", Sequence[str]], tuple[str, Callable[[str], str]]]
_LOG = logging.getLogger(__name__)
_CLEAR = ("better", "worse", "equivalent")


@dataclass(frozen=True)
class Answer:
    """The answer in one sentence; `is_settled` says that more seeds are not needed.

    Where the arms cannot be compared, `study` is None and `problem` says why.
    """

    text: str
    is_settled: bool
    study: "Study | None" = None
    problem: str | None = None


def answer_of(sweep: Sweep, stored: StoredSweep, runs: Sequence[RunProgress], *, write: bool = True) -> Answer:
    """Compare the arms by runs that are done; with `write`, the study is kept in the sweep's folder."""
    from debiasctl.comparison.statistics.looks import Looks
    from debiasctl.comparison.study import study_of

    first = sorted(runs, key=lambda one: one.arm != stored.reference)  # the first arm is the reference
    planned, at = stored.looks or [], len(stored.seeds)
    if planned and at > planned[0] and at not in planned:
        problem = (
            f"the sweep is decided at {', '.join(map(str, planned))} seeds, as was declared, and has {at}, where no "
            f"verdict keeps the error rate. The figures alone: debiasctl compare '{sweep.name}-*'"
        )
        return Answer(f"the arms are not compared: {problem}", False, problem=problem)
    try:
        study = study_of(
            [one.run for one in first],
            primary=stored.primary,
            margin=stored.margin,
            looks=Looks(tuple(planned), at) if at in planned else None,
            with_curves=write,
        )
    except DebiasctlError as error:
        return Answer(f"the arms cannot be compared: {error}", False, problem=str(error))
    if write:
        write_json(sweep.path / STUDY, study.to_json())
    primary = [one for one in study.verdicts if one.cell == study.primary]
    return Answer(study.answer, bool(primary) and all(one.word in _CLEAR for one in primary), study)


def write_report(sweep: Sweep, answer: Answer, runs: Sequence[RunProgress], commands: Commands) -> None:
    """Write the report of an answer into the sweep's folder, where there is something to compare.

    What keeps it from being written is logged: the sweep and its answer do not depend on it.
    """
    from debiasctl.comparison.report import report_of
    from debiasctl.reporting.report import render

    if answer.study is None:
        return
    names = {member.run for arm in answer.study.arms for member in arm.members}
    compared = [one.run for one in runs if one.run.name in names]
    command, drawing = commands(answer.study, [run.name for run in compared])
    try:
        render.write_report(sweep.report, report_of(answer.study, compared, command=command, drawing=drawing))
    except DebiasctlError as error:
        _LOG.warning("the report of sweep '%s' could not be written: %s", sweep.name, error)
