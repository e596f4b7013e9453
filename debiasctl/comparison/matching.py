"""Figures of all arms that were measured alike, matched into cells: one metric under one measurement."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from pydantic import JsonValue

from debiasctl.comparison.axes import conditions_apart
from debiasctl.comparison.observations import LARGEST, ArmData, Measured, Member, Observation, Observed
from debiasctl.errors import ComparisonError

Key = tuple[Measured, str, bool]  # conditions that must be equal, metric, whether its pairs are counted by class
_ByCheckpoint = dict[int | None, list[Observation]]
_SHORT = 12  # letters of a condition in a cell's key


@dataclass(frozen=True)
class ArmCell:
    """An arm's chosen observations by the index of its members; `missing` are the indices of those without one."""

    arm: ArmData
    chosen: dict[int, Observation]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class CellData:
    """One cell: `key` names it, `checkpoint` is the common one of the arms that were trained here, if they have one."""

    key: str
    metric: str
    measured: dict[str, JsonValue]
    checkpoint: int | None
    arms: tuple[ArmCell, ...]

    @property
    def steps(self) -> int | None:
        """The sampling steps, where the arms share them."""
        found = self.measured.get("steps")
        return found if isinstance(found, int) else None

    def observed(self, arm: int) -> dict[int, Observed]:
        """An arm's figures by the index of its members."""
        return {index: one.figures[self.metric] for index, one in self.arms[arm].chosen.items()}

    def steps_of(self, arm: int) -> int | None:
        """The checkpoint that an arm was measured at."""
        return next((one.checkpoint for one in self.arms[arm].chosen.values()), None)

    def withheld(self, arm: int) -> str | None:
        """Why an arm's figures allow no verdict: some of its images are not near working ones."""
        found: dict[str, list[int]] = {}
        for place, one in self.arms[arm].chosen.items():
            for reason in one.reasons:
                found.setdefault(reason.details, []).append(self.arms[arm].arm.members[place].seed)
        if not found:
            return None
        details, seeds = next(iter(found.items()))
        return f"'{self.arms[arm].arm.name}', seed {', '.join(map(str, seeds))}: {details}"

    @property
    def first(self) -> Observed:
        """The first arm's first figure, for what all share."""
        return next(iter(self.observed(0).values()))

    def value(self, figure: Observed) -> float:
        """The figure that is compared."""
        return figure.value if self.figure == "value" or figure.corrected is None else figure.corrected

    @cached_property
    def figure(self) -> Literal["corrected", "value"]:
        """Which figure is compared: the corrected one where all have one."""
        found = [one for number in range(len(self.arms)) for one in self.observed(number).values()]
        return "corrected" if all(one.corrected is not None for one in found) else "value"


Index = dict[Key, dict[int, dict[int, _ByCheckpoint]]]  # key -> arm -> member -> checkpoint -> observations


def indexed(arms: Sequence[ArmData], free: Sequence[str], *, metric: str | None = None) -> Index:
    """All observations by what they are of, or those of one metric; conditions in `free` need not be equal."""
    index: Index = {}
    conditions: dict[Measured, Measured] = {}
    for number, arm in enumerate(arms):
        for place, member in enumerate(arm.members):
            for one in member.observations:
                for name, figure in one.figures.items():
                    if metric not in (None, name):
                        continue
                    measured = one.conditions(name)
                    held = conditions.get(measured)
                    if held is None:
                        held = tuple(pair for pair in measured if pair[0] not in free)
                        conditions[measured] = held
                    of_arm = index.setdefault((held, name, figure.by_class), {}).setdefault(number, {})
                    of_arm.setdefault(place, {}).setdefault(one.checkpoint, []).append(one)
    return index


def cells_of(arms: Sequence[ArmData], index: Index, *, free: Sequence[str], budgets_differ: bool) -> list[CellData]:
    """The cells in which every arm has a figure.

    All arms are taken at the last checkpoint that all their members were measured at; where budgets differ by design,
    or there is none, each arm is taken at its own.

    Raises:
        ComparisonError: if there is no cell, or a member takes part in none; it lists what differs.
    """
    shared = {key: found for key, found in index.items() if len(found) == len(arms)}
    if not shared:
        raise ComparisonError(_not_comparable([member for arm in arms for member in arm.members], free))
    names = _names(list(shared))
    cells = [
        _cell(names[key], key, arms, [shared[key][number] for number in range(len(arms))], budgets_differ)
        for key in shared
    ]
    _refuse_apart(arms, cells, free)
    _refuse_extreme(cells)
    return cells


def _refuse_extreme(cells: Sequence[CellData]) -> None:
    """Refuse figures whose squares are no numbers any more, as a damaged record has them."""
    for cell in cells:
        for one in cell.arms:
            for place, observation in one.chosen.items():
                figure = observation.figures[cell.metric]
                value = max(figure.value, figure.corrected or 0.0, key=abs)
                if abs(value) > LARGEST:
                    raise ComparisonError(
                        f"'{one.arm.members[place].source}': {cell.key} is {value:g}, which is too large to compute "
                        f"with (at most {LARGEST:g}). Leave it out, or measure it again"
                    )


def _cell(
    name: str, key: Key, arms: Sequence[ArmData], found: Sequence[dict[int, _ByCheckpoint]], budgets_differ: bool
) -> CellData:
    own = [_shared_checkpoints(of_arm) for of_arm in found]
    trained = [steps for steps in own if steps != {None}]  # what was made elsewhere is of no checkpoint
    common = set() if budgets_differ or not trained else trained[0].intersection(*trained[1:])
    at = [
        max(common, key=_step) if common and steps != {None} else _own_checkpoint(of_arm)
        for steps, of_arm in zip(own, found, strict=True)
    ]
    seeds = _common_seeds(found, at)
    chosen = []
    for arm, of_arm, step in zip(arms, found, at, strict=True):
        taken = {
            place: _preferred(by_step[step], arm.members[place].seed, seeds)
            for place, by_step in sorted(of_arm.items())
            if step in by_step
        }
        missing = tuple(place for place in range(len(arm.members)) if place not in taken)
        chosen.append(ArmCell(arm, taken, missing))
    reached = set(at) - {None}
    return CellData(name, key[1], dict(key[0]), reached.pop() if len(reached) == 1 else None, tuple(chosen))


def _step(checkpoint: int | None) -> int:
    return -1 if checkpoint is None else checkpoint


def _shared_checkpoints(of_arm: dict[int, _ByCheckpoint]) -> set[int | None]:
    """The checkpoints that all members with this figure were measured at."""
    first, *others = of_arm.values()
    return set(first).intersection(*others)


def _own_checkpoint(of_arm: dict[int, _ByCheckpoint]) -> int | None:
    """The last checkpoint that the members share; where they share none, the one of most of them."""
    shared = _shared_checkpoints(of_arm)
    if shared:
        return max(shared, key=_step)
    counts = Counter(step for by_step in of_arm.values() for step in by_step)
    return max(counts, key=lambda step: (counts[step], _step(step)))


def _common_seeds(found: Sequence[dict[int, _ByCheckpoint]], at: Sequence[int | None]) -> set[int | None]:
    """The sampling seeds that all members' images were drawn with."""
    sets = [
        {one.sampling_seed for one in by_step[step]}
        for of_arm, step in zip(found, at, strict=True)
        for by_step in of_arm.values()
        if step in by_step
    ]
    return set.intersection(*sets)


def _preferred(observations: Sequence[Observation], seed: int, common: set[int | None]) -> Observation:
    """Of several evaluations the one of images drawn with the training seed, else with a seed that all share."""
    own = [one for one in observations if one.sampling_seed == seed]
    alike = [one for one in observations if one.sampling_seed in common]
    return (own or alike or observations)[-1]


def _names(keys: Sequence[Key]) -> dict[Key, str]:
    """`metric@steps` for each cell, with those other conditions that cells of one name differ in."""
    groups: dict[str, list[Key]] = {}
    for key in keys:
        steps = dict(key[0]).get("steps")
        groups.setdefault(key[1] if steps is None else f"{key[1]}@{steps}", []).append(key)
    names = {}
    for name, alike in groups.items():
        conditions = [dict(key[0]) for key in alike]
        fields = dict.fromkeys(field for one in conditions for field in one)
        apart = [field for field in fields if len({str(one.get(field)) for one in conditions}) > 1]
        for number, (key, one) in enumerate(zip(alike, conditions, strict=True)):
            said = [f"{field}={str(one.get(field)).partition(':')[0][:_SHORT]}" for field in apart]
            by_class = [f"by_class={str(key[2]).lower()}"] if len({other[2] for other in alike}) > 1 else []
            names[key] = " ".join([name, *said, *by_class])
            if names[key] in [names[other] for other in alike[:number]]:
                names[key] += f" ({number + 1})"
    return names


def _refuse_apart(arms: Sequence[ArmData], cells: Sequence[CellData], free: Sequence[str]) -> None:
    """Refuse a member that takes part in no cell."""
    for number, arm in enumerate(arms):
        taking = {place for cell in cells for place in cell.arms[number].chosen}
        alone = [member for place, member in enumerate(arm.members) if place not in taking]
        if alone:
            others = [member for place, member in enumerate(arm.members) if place in taking]
            raise ComparisonError(_not_comparable([*others, *alone], free))


def _not_comparable(members: Sequence[Member], free: Sequence[str]) -> str:
    details = conditions_apart(members, free)
    if not details:
        return (
            "no figure of these runs was measured in the same way for all of them. Evaluate each with the same options"
        )
    return (
        f"the figures of these runs were measured differently and cannot be compared ({details}). "
        "Evaluate each with the same options, or name the axis along which they are meant to differ with `by`"
    )


def left_out(arms: Sequence[ArmData], index: Index) -> list[str]:
    """Notes on figures that only some arms have."""
    holders: dict[str, set[int]] = {}
    for (_, metric, _), found in index.items():
        holders.setdefault(metric, set()).update(found)
    notes = []
    for metric, having in holders.items():
        if len(having) < len(arms):
            without = [arm.name for number, arm in enumerate(arms) if number not in having]
            notes.append(f"{metric} is left out: {', '.join(without)} has no such figure")
    apart = [
        metric
        for metric in holders
        if any(key[1] == metric and len(found) < len(arms) for key, found in index.items())
        and len({key[2] for key in index if key[1] == metric}) > 1
    ]
    return [
        *notes,
        *(f"{one}: an older version computed it without classes; evaluate those runs again" for one in apart),
    ]
