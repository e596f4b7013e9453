"""Blocks: settings crossed with what is compared, such as learning rates, with a verdict each and one over all."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from pydantic import JsonValue

from debiasctl.comparison.arms import Settings, arm_names
from debiasctl.comparison.blocks import over_blocks
from debiasctl.comparison.cells import ArmValues, Cell
from debiasctl.comparison.matching import ArmCell, CellData
from debiasctl.comparison.observations import ArmData, Observation, Observed
from debiasctl.errors import ComparisonError, UsageError
from debiasctl.evaluation.plausibility import Warned
from debiasctl.wording import did_you_mean, quoted

Block = tuple[JsonValue, ...]


def find_blocks(names: Sequence[str], differing: Sequence[str]) -> list[str]:
    """The settings in which arms differ that are named, by their whole names or the last part.

    Raises:
        UsageError: if arms do not differ in one, or in nothing else.
    """
    found = []
    for name in names:
        alike = [field for field in differing if field == name or field.rpartition(".")[2] == name]
        if len(alike) != 1:
            known = [field.rpartition(".")[2] for field in differing]
            raise UsageError(
                f"`blocks`: the arms do not differ in {quoted(name)}.{did_you_mean(name, [*known, *differing])} "
                f"They differ in: {', '.join(differing) or 'nothing'}"
            )
        found += alike
    if found and set(found) == set(differing):
        raise UsageError(f"`blocks`: the arms differ in nothing but {', '.join(found)}, and nothing is left to compare")
    return list(dict.fromkeys(found))


def crossed(
    arms: Sequence[ArmData], cells: Sequence[CellData], blocks: Sequence[str]
) -> tuple[list[ArmData], list[CellData]]:
    """Arms that differ in the other settings alone, with a cell for each block and one over all, whose key stays.

    Raises:
        ComparisonError: if an arm was not trained in every block.
    """
    rest = [{field: value for field, value in arm.settings.items() if field not in blocks} for arm in arms]
    kinds: list[Settings] = [one for number, one in enumerate(rest) if one not in rest[:number]]
    within: list[Block] = list(dict.fromkeys(tuple(arm.settings[field] for field in blocks) for arm in arms))
    at = {
        (kinds.index(one), tuple(arm.settings[field] for field in blocks)): number
        for number, (one, arm) in enumerate(zip(rest, arms, strict=True))
    }
    names = arm_names(kinds)
    missing = [(kind, block) for kind, block in product(range(len(kinds)), within) if (kind, block) not in at]
    if missing:
        listed = ", ".join(f"{names[kind]} with {_named(blocks, block)}" for kind, block in missing[:5])
        raise ComparisonError(f"blocks need every arm in each of them, and there is no run of {listed}. Train it")
    numbers = [[at[kind, block] for block in within] for kind in range(len(kinds))]  # kind -> its arm in each block
    made = [
        ArmData(names[kind], "runs", kinds[kind], [one for number in of_kind for one in arms[number].members])
        for kind, of_kind in enumerate(numbers)
    ]
    found = []
    for cell in cells:
        parts = [
            _part(cell, made, numbers, place, f"{cell.key} {_named(blocks, block)}")
            for place, block in enumerate(within)
        ]
        found += [_over(cell, parts), *parts]
    return made, found


def _named(fields: Sequence[str], block: Block) -> str:
    return " ".join(f"{field.rpartition('.')[2]}={value}" for field, value in zip(fields, block, strict=True))


def _part(cell: CellData, made: Sequence[ArmData], numbers: Sequence[Sequence[int]], place: int, key: str) -> CellData:
    """One block's cell; members are counted through all blocks."""
    arms = []
    for arm, of_kind in zip(made, numbers, strict=True):
        before = sum(len(cell.arms[number].arm.members) for number in of_kind[:place])
        one = cell.arms[of_kind[place]]
        chosen = {before + index: seen for index, seen in one.chosen.items()}
        arms.append(ArmCell(arm, chosen, tuple(before + index for index in one.missing)))
    return CellData(key, cell.metric, cell.measured, cell.checkpoint, tuple(arms))


def _over(cell: CellData, parts: Sequence[CellData]) -> CellData:
    """The cell of means over blocks, seed by seed."""
    means = over_blocks([_values(part) for part in parts], cell.key)
    first = parts[0].first
    arms = []
    for number, values in enumerate(means.arms):
        arm = parts[0].arms[number].arm
        reasons = tuple(reason for part in parts for one in part.arms[number].chosen.values() for reason in one.reasons)
        places = {arm.members[place].seed: place for part in reversed(parts) for place in part.arms[number].chosen}
        chosen = {
            places[seed]: _mean(parts[0].arms[number].chosen[places[seed]], cell.metric, value, first, reasons)
            for seed, value in zip(values.seeds, values.values, strict=True)
        }
        lacking = [place for seed, place in places.items() if seed not in values.seeds]
        arms.append(ArmCell(arm, chosen, tuple(lacking)))
    return replace(parts[0], key=cell.key, arms=tuple(arms))


def _values(part: CellData) -> Cell:
    arms = []
    for number, one in enumerate(part.arms):
        observed = part.observed(number)
        seeds = tuple(one.arm.members[place].seed for place in observed)
        arms.append(ArmValues(one.arm.name, seeds, tuple(part.value(figure) for figure in observed.values())))
    return Cell(part.key, part.metric, part.steps, part.first.better, tuple(arms))


def _mean(like: Observation, metric: str, value: float, first: Observed, reasons: tuple[Warned, ...]) -> Observation:
    figure = first._replace(value=value, corrected=None, low=None, high=None)
    return replace(like, record=None, figures={metric: figure}, reasons=reasons)
