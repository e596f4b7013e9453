"""How often two runs that differ in the seed alone differ by as much, from other runs on the same data set."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scipy.special import stdtr

from debiasctl.comparison.arms import arms_of
from debiasctl.comparison.evaluations import evaluations_of
from debiasctl.comparison.matching import CellData, cells_of, indexed
from debiasctl.comparison.observations import ArmData, Member, observations_of
from debiasctl.errors import ComparisonError, RunError
from debiasctl.runs.selection import stored_runs
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec

_MOST = 200  # runs that are looked at


@dataclass(frozen=True)
class SeedsAlone:
    """The chance that seeds alone make a difference as large as the one seen, and what it was estimated from."""

    chance: float
    num_runs: int
    num_arms: int

    def __str__(self) -> str:
        return (
            f"on this data set, two runs that differ in the seed alone differ by as much in {percent(self.chance)} "
            f"of cases (by {self.num_runs} runs in {self.num_arms} arm{'s' if self.num_arms > 1 else ''} of the store)"
        )


def percent(share: float) -> str:
    """A share in percent, without claiming 0 or all."""
    return "less than 1 %" if share < 0.01 else "more than 99 %" if share > 0.99 else f"{100 * share:.0f} %"


def seeds_alone(cells: Sequence[CellData], content_hash: str | None) -> dict[tuple[str, str], SeedsAlone]:
    """For each cell and arm with one seed, how often seeds do as much as tells it from the first arm.

    It is known where the store holds arms of several seeds on the same data, which were measured alike.
    """
    known = list(_known(content_hash)) if content_hash is not None else []
    found = {}
    for cell in cells:
        base = _only(cell, 0)
        alike = [one for one in known if one.metric == cell.metric and one.measured == cell.measured]
        for number in range(1, len(cell.arms)):
            value = _only(cell, number)
            if base is not None and value is not None and alike:
                chance = _chance(base, value, alike, signed=cell.first.better == "zero")
                if chance is not None:
                    runs = sum(len(one.arms[0].chosen) for one in alike)
                    found[cell.key, cell.arms[number].arm.name] = SeedsAlone(chance, runs, len(alike))
    return found


def _only(cell: CellData, arm: int) -> float | None:
    values = [cell.value(one) for one in cell.observed(arm).values()]
    return values[0] if len(values) == 1 else None


def _chance(first: float, second: float, known: Sequence[CellData], *, signed: bool) -> float | None:
    """Of a t variable, from standard deviations relative to the means, unless figures may have either sign."""
    samples = [[one.value(figure) for figure in one.observed(0).values()] for one in known]
    relative = not signed and min(first, second, *(value for of_arm in samples for value in of_arm)) > 0
    squares, freedom = 0.0, 0
    for values in samples:
        mean = math.fsum(values) / len(values)
        squares += math.fsum((value - mean) ** 2 for value in values) / (mean**2 if relative else 1)
        freedom += len(values) - 1
    deviation = math.sqrt(squares / freedom) * ((first + second) / 2 if relative else 1)
    if deviation == 0:
        return None
    return float(2 * stdtr(freedom, -abs(first - second) / (deviation * math.sqrt(2))))


def _known(content_hash: str) -> Iterator[CellData]:
    """Cells of the store's arms on this data that have several seeds; what cannot be read there is of no use here."""
    runs: list[Run] = []
    specs: list[RunSpec] = []
    for run in stored_runs():
        try:
            spec = run.spec()
        except RunError:
            continue
        known = spec.content is not None and content_hash in (spec.content.content_hash, spec.content.files_hash)
        if known and len(runs) < _MOST:
            runs.append(run)
            specs.append(spec)
    for arm in arms_of(runs, specs).arms if runs else ():
        members = []
        for run, seed in zip(arm.runs, arm.seeds, strict=True):
            try:
                evaluations = evaluations_of(run, on_damaged=lambda _: None)
            except ComparisonError:
                continue
            observations = observations_of(evaluations, batch_size=arm.batch_size)
            members.append(Member(seed, run.name, run.name, None, None, observations))
        if len(members) > 1:
            data = [ArmData(arm.name, "runs", {}, members)]
            index = indexed(data, ())
            try:
                cells = cells_of(data, index, free=(), budgets_differ=False)
            except ComparisonError:  # its runs were measured differently
                continue
            yield from (cell for cell in cells if len(cell.arms[0].chosen) > 1 and cell.withheld(0) is None)
