"""What `debiasctl compare` prints: the answer, the verdicts with the primary one first, and the figures."""

from typing import TYPE_CHECKING

from debiasctl.cli.one_seed import print_one_seed
from debiasctl.cli.output import note, print_table, print_text
from debiasctl.cli.verdict_table import (
    COLUMNS,
    Choice,
    chosen_columns,
    chosen_rows,
    limits,
    rows_of,
)

if TYPE_CHECKING:
    from debiasctl.comparison.study_record import Study
    from debiasctl.comparison.tables import Comparison

_FIGURES = ("metric", "steps", "condition", "arm", "figure", "seeds", "floor", "better")


def print_study(study: "Study", choice: Choice, table: "Comparison | None") -> None:
    """Print a study; `table` is that of one seed an arm."""
    print_text(study.answer)
    print()
    if table is not None:
        print_one_seed(table)
    else:
        _print_arms(study)
        _print_verdicts(study, choice)
        _print_figures(study, choice)
    _print_efficiency(study)
    said = set() if table is None else {*table.notes}
    for text in study.warnings if table is None else []:
        print_text(f"warning: {text}")
    for text in study.skipped:
        print_text(f"skipped: {text}")
    for text in study.notes:
        if text not in said:
            note(f"note: {text}")


def _print_arms(study: "Study") -> None:
    """The arms with their seeds and the settings in which they differ."""
    fields = [field for field in study.differing if len({str(arm.settings.get(field)) for arm in study.arms}) > 1]
    checkpoints = [_checkpoints(study, index) for index in range(len(study.arms))]
    columns = {
        "arm": [arm.name for arm in study.arms],
        "seeds": [", ".join(map(str, dict.fromkeys(arm.seeds))) for arm in study.arms],
    }
    if set(checkpoints) != {"-"}:
        columns["checkpoint"] = checkpoints
    columns |= {field: [_cell(arm.settings.get(field)) for arm in study.arms] for field in fields}
    print_table(list(columns), [list(row) for row in zip(*columns.values(), strict=True)], keys=1)


def _checkpoints(study: "Study", index: int) -> str:
    found = {member.checkpoint for member in study.arms[index].members if member.checkpoint is not None}
    return ", ".join(map(str, sorted(found))) or "-"


def _cell(value: object) -> str:
    from debiasctl.comparison.words import setting_text

    return "-" if value is None else setting_text(value) if isinstance(value, list) else str(value)


def _print_verdicts(study: "Study", choice: Choice) -> None:
    rows, more = chosen_rows(study, choice)
    if not rows:
        return
    columns = chosen_columns(rows, choice)
    cells = [[column.text(row) for column in columns] for row in rows]
    title = (
        f"verdicts against {study.reference}, over training seeds (95 %; equivalent: within "
        f"{100 * study.margin:.3g} %; primary metric first, the others corrected for their number)"
    )
    keys = max(1, [column.name for column in columns].index("arm") + 1 if "arm" in {one.name for one in columns} else 1)
    print_table([column.name for column in columns], cells, title=title, keys=min(keys, 3))
    reasons = dict.fromkeys(row.verdict.reason for row in rows if row.verdict is not None and row.verdict.reason)
    for reason in reasons:
        if any(
            row.verdict is not None and row.verdict.word == "withheld" and row.verdict.reason == reason for row in rows
        ):
            print_text(f"withheld: {reason}")
    if more:
        print_text(f"{more} more row{'s' if more > 1 else ''}, measured otherwise: --all, --sort COLUMN or --top N")
        print()


def _print_figures(study: "Study", choice: Choice) -> None:
    shown = dict.fromkeys(row.cell.key for row in chosen_rows(study, choice, reference=len(study.arms) == 1)[0])
    rows = [row for row in rows_of(study, reference=True) if row.cell.key in shown]
    columns = [
        COLUMNS[name]
        for name in _FIGURES
        if name in ("metric", "arm", "figure") or len({COLUMNS[name].text(row) for row in rows}) > 1
    ]
    print_table(
        [column.name for column in columns],
        [[column.text(row) for column in columns] for row in rows],
        title="figures: mean ± standard deviation over training seeds",
        keys=1,
    )


def _print_efficiency(study: "Study") -> None:
    if not study.efficiency:
        return
    rows = []
    for one in study.efficiency:
        mark = "≥ " if one.at_least else "≤ " if one.at_most else ""
        ratio = "-" if one.ratio is None else f"{mark}× {one.ratio:.3g} {limits(one.low, one.high)}".rstrip()
        rows.append([one.curve, f"{one.level:g}", one.arm, ratio])
    title = f"speed-up over {study.reference}: how many times sooner the level is reached"
    print_table(["curve", "level", "arm", "speed-up (95 %)"], rows, title=title, keys=3)
    for one in study.efficiency:
        if one.note:
            print_text(f"{one.arm}, {one.curve}: {one.note}")
