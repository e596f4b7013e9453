"""Studies: runs become arms, their evaluations cells, and the cells verdicts and an answer."""

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from debiasctl.comparison.answer import answer_of
from debiasctl.comparison.arms import Arms, arms_of, confounded, seeds_apart
from debiasctl.comparison.axes import parse_axes, split_by
from debiasctl.comparison.cells import ArmValues, Cell
from debiasctl.comparison.crossed import crossed, find_blocks
from debiasctl.comparison.efficiency import curves_of, efficiency_of
from debiasctl.comparison.evaluations import Evaluation, Reader, each_evaluation, evaluations_of
from debiasctl.comparison.known_images import measured_on_content
from debiasctl.comparison.matching import CellData, cells_of, indexed, left_out
from debiasctl.comparison.observations import ArmData, Member, observations_of
from debiasctl.comparison.primary import find_primary
from debiasctl.comparison.remeasure import measuring_command
from debiasctl.comparison.seed_variance import seeds_alone
from debiasctl.comparison.statistics.equivalence import MARGIN
from debiasctl.comparison.statistics.looks import Looks
from debiasctl.comparison.study_notes import notes_of, warnings_of
from debiasctl.comparison.study_parts import arm_record, cell_record, environment
from debiasctl.comparison.study_record import Study, VerdictRecord
from debiasctl.comparison.verdict import Pairing, judge
from debiasctl.errors import ComparisonError, RunError, UsageError
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec
from debiasctl.wording import did_you_mean, quoted

BUDGET = ("training.steps", "training.batch_size")


@contextmanager
def _collection_paused() -> Iterator[None]:
    """Without the search for circles of references, which thousands of records would have made again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collection_paused()
def study_of(
    runs: Sequence[Run],
    *,
    external: Sequence[ArmData] = (),
    by: Sequence[str] = (),
    metric: str | None = None,
    primary: str | None = None,
    reference: str | None = None,
    margin: float = MARGIN,
    paired: Pairing = "auto",
    borrowed: bool = False,
    looks: Looks | None = None,
    blocks: Sequence[str] = (),
    levels: Mapping[str, float] | None = None,
    skip_damaged: bool = False,
    reader: Reader | None = None,
    with_curves: bool = True,
) -> Study:
    """Compare arms of runs, and arms of images or figures made elsewhere.

    `by` names axes of measurement along which figures may differ, `primary` the metric that decides, `reference` the
    arm against which the others are judged (the first by default), `levels` those of metrics from which speed-ups are
    computed; `margin`, `paired`, `borrowed` and `looks` are as `judge` takes them. `blocks` names settings that are
    crossed with what is compared: each of their values has a verdict, and the primary one is over all of them.
    `skip_damaged` leaves out runs and records that are damaged or missing, and names them in the study.

    Raises:
        UsageError: if an argument names nothing that there is, or asks for pairs where seeds differ.
        ComparisonError: if figures were measured differently, or a record is damaged or missing.
    """
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise UsageError("a run is named twice. Name different runs: debiasctl compare RUN RUN")
    axes = parse_axes(by)
    skipped: list[str] = []
    usable = list(_with_specs(runs, skipped if skip_damaged else None))
    grouped = arms_of([run for run, _ in usable], [spec for _, spec in usable])
    own = _arm_data(grouped, skipped if skip_damaged else None, reader or each_evaluation)
    arms, free = split_by(measured_on_content([*own, *external], [spec for _, spec in usable]), axes)
    if not arms:
        raise ComparisonError(f"nothing is left to compare: {'; '.join(skipped)}")
    _check_names(arms)
    _check_metric(arms, metric, runs)
    index = indexed(arms, free, metric=metric)
    budgets_differ = any(field in grouped.differing for field in BUDGET)
    cells = cells_of(arms, index, free=free, budgets_differ=budgets_differ)
    within = find_blocks(blocks, grouped.differing)
    if within:
        _check_blocks(external, axes, levels)
        arms, cells = crossed(arms, cells, within)
    first, said = find_primary(cells, primary, datasets=[arm.dataset for arm in grouped.arms])
    base = find_reference(arms, reference)
    apart = seeds_apart({arm.name: [member.seed for member in arm.members] for arm in arms})
    if paired == "yes" and apart is not None:
        raise UsageError(f"`paired`: the arms do not have the same seeds ({apart}). Leave it out, or train the others")
    hashes = {arm.content_hash for arm in grouped.arms}
    verdicts = _verdicts(
        cells,
        hashes.pop() if len(hashes) == 1 else None,
        primary=first.key,
        reference=base,
        margin=margin,
        paired=paired,
        borrowed=borrowed,
        looks=looks,
    )
    curves = curves_of(arms, index) if (with_curves or levels) and not within else []
    records = [cell_record(cell, primary=cell is first) for cell in cells]
    settings = {arm.name: arm.settings for arm in arms if arm.kind == "runs"}
    over = f"figures without a block are means over blocks ({', '.join(within)}), seed by seed" if within else ""
    notes = [
        said,
        over,
        *grouped.notes,
        *([] if within else left_out(arms, index)),
        *notes_of(usable, arms, first, apart=apart),
    ]
    return Study(
        schema_version=1,
        answer=answer_of(arms, records, verdicts, primary=first.key, reference=base),
        primary=first.key,
        reference=base,
        margin=margin,
        paired=apart is None,
        differing=[*grouped.differing, *(field for field in free if any(field in arm.settings for arm in arms))],
        by=axes,
        arms=[arm_record(arm, cells) for arm in arms],
        cells=records,
        verdicts=verdicts,
        curves=curves,
        efficiency=efficiency_of(curves, levels or {}, arms=[arm.name for arm in arms], reference=base),
        warnings=[
            *grouped.warnings,
            *confounded(settings, base),
            *warnings_of(cells, first, budgets_differ=budgets_differ),
        ],
        notes=[text for text in notes if text],
        skipped=skipped,
        environment=environment(spec for _, spec in usable),
    )


def _verdicts(cells: Sequence[CellData], content_hash: str | None, **asked: Any) -> list[VerdictRecord]:
    """The verdicts on all arms but the reference; one arm has none.

    `content_hash` is that of the arms' data set, if they share one, and `asked` is as `judge` takes it.
    """
    if len(cells[0].arms) < 2:
        return []
    found = judge([judged(cell) for cell in cells], **asked)
    alone = seeds_alone(cells, content_hash) if all(max(one.num) < 2 for one in found) else {}
    stored = []
    for one in found:
        known = alone.get((one.cell, one.arm))
        said = {} if known is None else {"evidence": f"{one.evidence.rstrip('.')}; {known}."}
        chance = None if known is None else known.chance
        stored.append(VerdictRecord(**vars(one) | {"num": list(one.num), "seeds_alone": chance} | said))
    return stored


def _check_blocks(external: Sequence[ArmData], axes: Sequence[str], levels: Mapping[str, float] | None) -> None:
    for given, name in ((external, "arm"), (axes, "by"), (levels, "level")):
        if given:
            raise UsageError(
                f"`blocks` are settings of runs, which cannot be told apart by `{name}` at once. Give one of them"
            )


def _check_metric(arms: Sequence[ArmData], metric: str | None, runs: Sequence[Run]) -> None:
    """Check that every member was measured by the one metric that is asked for, if it is one."""
    if metric is None:
        return
    known = sorted(
        {name for arm in arms for member in arm.members for one in member.observations for name in one.figures}
    )
    if metric not in known:
        raise UsageError(
            f"unknown metric '{metric}'.{did_you_mean(metric, known)} These runs were measured by: {', '.join(known)}"
        )
    for arm in arms:
        for member in arm.members:
            if not any(metric in one.figures for one in member.observations):
                raise ComparisonError(
                    f"'{member.source}' was not measured by '{metric}'. Do that first, with the options of the others"
                    + _for_example(member, metric, runs)
                )


def _for_example(member: Member, metric: str, runs: Sequence[Run]) -> str:
    """How to measure it, where it is a run and another run was measured so."""
    found = [run for run in runs if run.name == member.run]
    evaluations = [one for run in runs for one in evaluations_of(run, on_damaged=lambda damage: None)]
    if not found or not any(metric in one.record.metrics for one in evaluations):
        return ""
    return f", for example: {measuring_command(found[0], metric, evaluations)}"


def _with_specs(runs: Sequence[Run], skipped: list[str] | None) -> Iterator[tuple[Run, RunSpec]]:
    for run in runs:
        try:
            yield run, run.spec()
        except RunError as error:
            if skipped is None:
                raise
            skipped.append(str(error))


def _arm_data(
    grouped: Arms, skipped: list[str] | None, read: Reader | Callable[..., Iterable[Evaluation]]
) -> list[ArmData]:
    """The arms with what was observed of their runs."""
    found = []
    for arm in grouped.arms:
        members = []
        for run, seed in zip(arm.runs, arm.seeds, strict=True):
            try:
                evaluations = read(run, on_damaged=None if skipped is None else skipped.append)
                observations = observations_of(evaluations, batch_size=arm.batch_size)
            except ComparisonError as error:
                if skipped is None:
                    raise
                skipped.append(str(error))
                continue
            if observations:
                members.append(Member(seed, run.name, run.name, run.identity(), str(run.path), observations))
        if members:
            found.append(ArmData(arm.name, "runs", arm.settings, members))
    return found


def judged(cell: CellData) -> Cell:
    """A cell as `judge` takes it."""
    values, withheld, variances = [], {}, []
    for number, arm in enumerate(cell.arms):
        observed = cell.observed(number)
        seeds = tuple(arm.arm.members[place].seed for place in observed)
        values.append(ArmValues(arm.arm.name, seeds, tuple(cell.value(one) for one in observed.values())))
        variances += [
            ((one.high - one.low) / 3.92) ** 2
            for one in observed.values()
            if one.low is not None and one.high is not None
        ]
        reason = cell.withheld(number)
        if reason is not None:
            withheld[arm.arm.name] = reason
    first = cell.first
    return Cell(
        cell.key, cell.metric, cell.steps, first.better, tuple(values), withheld, first.floor,
        sum(variances) / len(variances) if variances else None,
    )  # fmt: skip


def find_reference(arms: Sequence[ArmData], name: str | None) -> str:
    """The arm of that name, or of its unique prefix; the first one if there is no name.

    Raises:
        UsageError: if there is none, or there are several.
    """
    names = [arm.name for arm in arms]
    if name is None or name in names:
        return names[0] if name is None else name
    found = [one for one in names if one.startswith(name)]
    if len(found) != 1:
        problem = "is the beginning of several arms' names" if found else "is no arm"
        raise UsageError(
            f"`reference`: {quoted(name)} {problem}.{did_you_mean(name, names)} The arms are: {', '.join(names)}"
        )
    return found[0]


def _check_names(arms: Sequence[ArmData]) -> None:
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two arms are named {quoted(name)}. Give the arms of images or figures other names")
