"""What a reader of a study must know: what may mislead, and how it was measured."""

from collections.abc import Iterator, Sequence

from debiasctl.comparison.matching import CellData
from debiasctl.comparison.observations import ArmData
from debiasctl.comparison.reported import reported
from debiasctl.evaluation.plausibility import Warned, together
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec

_MOST = 5  # names in one sentence


def warnings_of(cells: Sequence[CellData], primary: CellData, *, budgets_differ: bool) -> list[str]:
    """What may mislead: other lengths of training, shared sampling errors, missing seeds, implausible images."""
    return [
        *_checkpoints(cells, primary, budgets_differ=budgets_differ),
        *_shared_sampling(primary),
        *_missing(cells),
        *_implausible(cells),
    ]


def _checkpoints(cells: Sequence[CellData], primary: CellData, *, budgets_differ: bool) -> Iterator[str]:
    apart = [cell for cell in cells if cell.checkpoint is None and any(cell.steps_of(n) for n in range(len(cell.arms)))]
    if apart and not budgets_differ:
        cell = primary if primary in apart else apart[0]
        steps = ", ".join(f"{one.arm.name} {cell.steps_of(number)}" for number, one in enumerate(cell.arms))
        yield (
            f"the arms were measured after different numbers of training steps ({steps}): a difference may come from "
            "that. Measure them at the same checkpoint"
        )


def _shared_sampling(primary: CellData) -> Iterator[str]:
    for arm in primary.arms:
        seeds = {one.sampling_seed for one in arm.chosen.values()}
        if len(arm.chosen) > 1 and len(seeds) == 1 and None not in seeds:
            yield (
                f"all runs of '{arm.arm.name}' were sampled with seed {next(iter(seeds))}: they share that sampling "
                "error, which does not average out over them. Evaluate each with its training seed, the default"
            )


def _missing(cells: Sequence[CellData]) -> Iterator[str]:
    found: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for arm in cell.arms:
            for place in arm.missing:
                found.setdefault((arm.arm.name, arm.arm.members[place].source), []).append(cell.key)
    for (name, source), keys in found.items():
        shown = ", ".join(keys[:_MOST]) + (f" and {len(keys) - _MOST} more" if len(keys) > _MOST else "")
        yield f"{source} of arm '{name}' has no figure for {shown}: that arm has fewer seeds there"


def _implausible(cells: Sequence[CellData]) -> list[str]:
    found: dict[str, dict[Warned, None]] = {}
    for cell in cells:
        for arm in cell.arms:
            for place, one in arm.chosen.items():
                found.setdefault(arm.arm.members[place].source, {}).update(dict.fromkeys(one.reasons))
    return together([(source, list(reasons)) for source, reasons in found.items()])


def notes_of(
    runs: Sequence[tuple[Run, RunSpec]],
    arms: Sequence[ArmData],
    primary: CellData,
    *,
    apart: str | None,
) -> list[str]:
    """How the arms were measured, and what has happened to their runs since."""
    found = [*_pairing(arms, primary, apart), *reported(runs, arms)]
    measured = {arm.arm.members[place].run: one.checkpoint for arm in primary.arms for place, one in arm.chosen.items()}
    for run, _ in runs:
        at, steps = measured.get(run.name), run.checkpoint_steps()
        if at is not None and steps and steps[-1] > at:
            found.append(
                f"'{run.name}' was measured at step {at} and has since been trained to step {steps[-1]}: "
                f"debiasctl evaluate {run.typed}"
            )
        status = run.status()
        if status.state == "failed":
            found.append(f"'{run.name}' failed at step {status.step}: {status.message or 'no reason was stored'}")
    return found


def _pairing(arms: Sequence[ArmData], primary: CellData, apart: str | None) -> Iterator[str]:
    if len(arms) < 2:
        return
    if apart is not None:
        yield f"the arms' seeds are not paired ({apart})"
        return
    if max(len(arm.members) for arm in arms) > 1:
        yield "the seeds are paired: each arm has the same ones"
    for place in range(len(arms[0].members)):
        seeds = {arm.chosen[place].sampling_seed for arm in primary.arms if place in arm.chosen}
        if len(seeds) > 1:
            yield "the arms' images were drawn with different sampling seeds, so that they start from different noise"
            return
