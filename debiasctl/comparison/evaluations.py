"""The stored evaluations and likelihoods of runs, read quickly: a comparison may need thousands."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from debiasctl.errors import ComparisonError, EvaluationError, ForeignPartError
from debiasctl.evaluation.quick_reading import quick_record
from debiasctl.evaluation.record import EvaluationRecord, LikelihoodRecord, read_own_record
from debiasctl.runs.parts import AUTOENCODER
from debiasctl.runs.store import Run

OnDamaged = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """A run's record, its key, and the checkpoint that it is of."""

    checkpoint: int
    record: EvaluationRecord | LikelihoodRecord
    key: str


class Reader:
    """Reads each run's evaluations once, for those that need them more than once."""

    def __init__(self) -> None:
        self._read: dict[Path, list[Evaluation]] = {}

    def __call__(self, run: Run, *, on_damaged: OnDamaged | None = None) -> list[Evaluation]:
        """A run's evaluations, as `evaluations_of` gives them."""
        if run.path not in self._read:
            self._read[run.path] = evaluations_of(run, on_damaged=on_damaged)
        return self._read[run.path]


def evaluations_of(run: Run, *, on_damaged: OnDamaged | None = None) -> list[Evaluation]:
    """A run's evaluations, as `each_evaluation` reads them, whose errors it raises."""
    return list(each_evaluation(run, on_damaged=on_damaged))


def each_evaluation(run: Run, *, on_damaged: OnDamaged | None = None) -> Iterator[Evaluation]:
    """Read a run's stored evaluations, oldest first; later ones replace earlier ones of the same measurement.

    No sampler can clip the estimates of a network that makes latents: its sampler is given as it would be for images.

    Where each is let go before the next one is read, thousands take much less time.

    A damaged record is refused, unless `on_damaged` is given: it is called with what is wrong, and the record left out.

    Raises:
        ComparisonError: if a record is damaged, or the run has none.
    """
    try:
        entries = [one for one in os.scandir(run.evaluations_dir) if one.name.endswith(".json") and one.name[0] != "."]
    except FileNotFoundError:
        entries = []
    entries.sort(key=lambda one: one.stat(follow_symlinks=False).st_mtime_ns)
    files = [Path(one.path) for one in entries]
    identity, unbounded = run.identity(), is_unbounded(run)
    found = False
    for path in files:
        try:
            one = _read(path, run, identity)
            if unbounded:
                one = replace(one, record=_as_for_images(one.record))
        except ComparisonError as error:
            if on_damaged is None:
                raise
            on_damaged(str(error))
            continue
        found = True
        yield one
        del one
    if not found and (on_damaged is None or not files):
        raise ComparisonError(f"run '{run.name}' has not been evaluated. Do that first: debiasctl evaluate {run.typed}")


def is_unbounded(run: Run) -> bool:
    """Whether the run's network makes latents that have no range."""
    if not (run.path / AUTOENCODER).exists():
        return False
    latents = run.spec().latents
    return latents is not None and not latents.bounded


def _as_for_images(record: EvaluationRecord | LikelihoodRecord) -> EvaluationRecord | LikelihoodRecord:
    if not isinstance(record, EvaluationRecord) or record.measured.sampler is None:
        return record
    sampler = record.measured.sampler.replace("clip_x0=false", "clip_x0=true")
    return record.model_copy(update={"measured": record.measured.model_copy(update={"sampler": sampler})})


def _read(path: Path, run: Run, identity: str | None) -> Evaluation:
    quick = quick_record(path)
    if quick is not None and quick.run_identity == identity and (identity is None or quick.key == path.stem):
        record: EvaluationRecord | LikelihoodRecord = quick
    else:
        try:
            record = read_own_record(path, run, way_on=_way_on(run))
        except (EvaluationError, ForeignPartError) as error:
            raise ComparisonError(str(error)) from error
    if record.checkpoint is None:
        raise ComparisonError(f"{path} is damaged (checkpoint: the record does not belong to a run). {_way_on(run)}")
    return Evaluation(record.checkpoint, record, path.stem)


def _way_on(run: Run) -> str:
    return f"Remove it and measure again: debiasctl evaluate {run.typed} or debiasctl likelihood {run.typed}"
