"""What a sweep says so far: the comparison of its arms by the runs that are done."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from debiasctl.errors import DebiasctlError
from debiasctl.files import write_json
from debiasctl.sweeps.progress import RunProgress
from debiasctl.sweeps.store import STUDY, StoredSweep, Sweep

if TYPE_CHECKING:
    from debiasctl.comparison.study_record import Study

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
