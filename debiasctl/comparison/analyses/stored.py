"""The analyses that runs have stored, as one analysis of the arms of a comparison."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from debiasctl.analysis.parts import catalogue
from debiasctl.analysis.parts.part import Part
from debiasctl.analysis.record import AGAIN, AnalysisRecord, Network, read_record, record_files
from debiasctl.comparison.analyses.results import Analysis, ArmInfo, Entry, PartResult
from debiasctl.errors import DebiasctlError
from debiasctl.files import content_key
from debiasctl.runs.parts import ANALYSES
from debiasctl.runs.store import Run


@dataclass(frozen=True)
class Placed:
    """A run with its place in a comparison; `checkpoint` is the one that was measured there, if it is known."""

    run: Run
    arm: str
    seed: int
    checkpoint: int | None = None


@dataclass(frozen=True)
class _Stored:
    record: AnalysisRecord
    of: Placed
    path: Path

    @property
    def way(self) -> str:
        """How it was measured: records of one way can be compared."""
        record = self.record
        return content_key([record.settings, record.network.weights, len(record.others)])

    @property
    def age(self) -> float:
        try:
            return self.path.stat().st_mtime
        except OSError:  # it was removed a moment ago
            return 0.0


def stored_analysis(
    places: Sequence[Placed], *, dataset: str, on_damaged: Callable[[str], None] | None = None
) -> Analysis | None:
    """What the runs have stored, of each part those records that most runs share; None if there is none.

    `on_damaged` is given what is damaged, and left out; without it, that is an error.

    Raises:
        EvaluationError, RunError: if a record is damaged, or of another run.
    """
    found: dict[str, list[_Stored]] = {}
    for place in places:
        for stored in _read(place, on_damaged):
            if (placed := _placed(stored, places)) is not None:
                found.setdefault(stored.record.part, []).append(placed)
    results, notes = [], list[str]()
    for name, part in catalogue.PARTS.items():
        if name in found:
            results.append(PartResult(part, _shared(part, found[name], places, notes)))
    if not results:
        return None
    arms: dict[str, list[Placed]] = {}
    for place in places:
        arms.setdefault(place.arm, []).append(place)
    infos = [ArmInfo(arm, [one.seed for one in of], [one.run.name for one in of]) for arm, of in arms.items()]
    return Analysis(infos, results, dataset, notes=notes)


def _read(place: Placed, on_damaged: Callable[[str], None] | None) -> Iterator[_Stored]:
    for path in record_files(place.run.path / ANALYSES):
        try:
            record = read_record(path)
            place.run.check_identity(record.network.run_identity, what=f"the analysis in {path}", way_on=AGAIN)
            _check_whole(record, place, path)
        except DebiasctlError as error:
            if on_damaged is None:
                raise
            on_damaged(str(error))
            continue
        yield _Stored(record, place, path)


def _check_whole(record: AnalysisRecord, place: Placed, path: Path) -> None:
    """Refuse a record that lacks figures or arrays that its part needs.

    Raises:
        EvaluationError: if it does.
    """
    part = catalogue.PARTS.get(record.part)
    if part is not None:
        entry = Entry(record, place.seed, path.parent)
        result = PartResult(part, [entry])
        result.findings(entry)
        result.pictures([entry])


def _placed(stored: _Stored, places: Sequence[Placed]) -> _Stored | None:
    """The record with the names that its networks have in the comparison, or None if one is not in it."""
    by_identity = {place.run.identity() or place.run.name: place for place in places}
    others = []
    for one in stored.record.others:
        place = by_identity.get(one.run_identity or one.run)
        if place is None:
            return None
        others.append(_named(one, place))
    network = _named(stored.record.network, stored.of)
    return _Stored(
        stored.record.model_copy(update={"network": network, "others": others}), stored.of, stored.path
    )  # fmt: skip


def _named(network: Network, place: Placed) -> Network:
    return network.model_copy(update={"run": place.run.name, "arm": place.arm})


def _shared(part: Part, stored: Sequence[_Stored], places: Sequence[Placed], notes: list[str]) -> list[Entry]:
    """Of records measured in one way, that of most runs or the newest: one for each run and others, in their order."""
    ways: dict[str, list[_Stored]] = {}
    for one in stored:
        ways.setdefault(one.way, []).append(one)
    best = max(ways.values(), key=lambda of: (len({one.of.run for one in of}), max(one.age for one in of)))
    chosen: dict[tuple[Run, tuple[str, ...]], _Stored] = {}
    for one in sorted(best, key=lambda one: (*_fit(one), one.age)):
        chosen[one.of.run, tuple(other.run for other in one.record.others)] = one
    missing = [place.run.name for place in places if place.run not in {run for run, _ in chosen}]
    if missing and not (part.needs_other or part.needs_all):
        notes.append(
            f"{part.name} was not measured, or measured otherwise, in {', '.join(missing)}: analyze all runs together"
        )
    order = {place.run: number for number, place in enumerate(places)}
    return [
        Entry(one.record, one.of.seed, one.path.parent)
        for _, one in sorted(chosen.items(), key=lambda pair: order[pair[0][0]])
    ]  # fmt: skip


def _fit(one: _Stored) -> tuple[bool, int]:
    """How well it fits the comparison: by the checkpoint that was measured there, else by the last one."""
    checkpoint = one.record.network.checkpoint
    return checkpoint == one.of.checkpoint, checkpoint


def drawing_commands(analysis: Analysis, runs: Sequence[Run]) -> Callable[[str, str], str]:
    """What gives the command that draws a picture of a part again."""
    names = " ".join(run.typed for run in runs)
    asked = {result.part.name: result.part.asked_as or result.part.name for result in analysis.parts}
    options = {result.part.name: shlex.join(result.entries[0].record.options) for result in analysis.parts}

    def command(part: str, name: str) -> str:
        more = f" {options[part]}" if options[part] else ""
        return f"debiasctl analyze {names} --only {asked[part]} --picture {name} --plot {name}.svg{more}"

    return command
