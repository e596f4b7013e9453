"""One verdict over blocks: settings crossed with the arms, such as learning rates, under which all were trained."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from debiasctl.comparison.cells import ArmValues, Cell


def over_blocks(blocks: Sequence[Cell], key: str) -> Cell:
    """The cell whose figures are means over blocks, seed by seed, for one verdict over all of them.

    The mean of one seed has what a seed does to all its blocks in it, so that blocks count as no further seeds. Seeds
    that a block lacks are left out of the arm; an arm withheld in one block is withheld.

    Raises:
        ValueError: if there is no block, or two differ in metric, direction or arms.
    """
    kinds = {(cell.metric, cell.better, tuple(values.arm for values in cell.arms)) for cell in blocks}
    if len(kinds) != 1:
        raise ValueError("blocks are cells of one metric, with the same arms in the same order")
    withheld = {arm: reason for cell in reversed(blocks) for arm, reason in cell.withheld.items()}
    steps = {cell.steps for cell in blocks}
    arms = tuple(_over(values) for values in zip(*(cell.arms for cell in blocks), strict=True))
    return replace(
        blocks[0], key=key, steps=steps.pop() if len(steps) == 1 else None, arms=arms, withheld=withheld, sampling=None
    )


def _over(blocks: Sequence[ArmValues]) -> ArmValues:
    figures = [dict(zip(values.seeds, values.values, strict=True)) for values in blocks]
    seeds = tuple(seed for seed in blocks[0].seeds if all(seed in own for own in figures))
    return ArmValues(blocks[0].arm, seeds, tuple(fmean(own[seed] for own in figures) for seed in seeds))
