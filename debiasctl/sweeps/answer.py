"""What a sweep says so far: the comparison of its arms, and the report of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from debiasctl.sweeps.progress import RunProgress
from debiasctl.sweeps.store import StoredSweep, Sweep


@dataclass(frozen=True)
class Answer:
    """The answer in one sentence; `is_settled` says that more seeds are not needed."""

    text: str
    is_settled: bool
    study: Any = None


def answer_of(sweep: Sweep, stored: StoredSweep, runs: Sequence[RunProgress], *, write: bool = True) -> Answer:
    """Compare the arms by the runs that are done."""
    return Answer(f"{len(runs)} runs are measured", False)
