"""The tables of a study's report."""

from collections.abc import Mapping, Sequence
from typing import Any

from debiasctl.comparison.study_record import ArmFigures, Efficiency, Study, VerdictRecord
from debiasctl.comparison.words import AIM, cell_name, figure_text, interval_text, listed, setting_text
from debiasctl.reporting.report.document import Cell, Column, ReportTable, Tone

_TONES: Mapping[str, Tone] = {
    "better": "better", "worse": "worse", "equivalent": "equivalent", "inconclusive": "inconclusive",
    "withheld": "withheld", "one seed": "withheld",
}  # fmt: skip
_SMALLEST_P = 1e-4
_MOST_ROWS = 1500
_SHORT = 12  # verdicts that are read at a glance


def verdict_table(study: Study, *, primary: bool | None = None) -> ReportTable:
    """The verdicts in the primary metric, in the others, or with `primary=None` in all, the primary's first."""
    columns = [
        Column("Metric"),
        Column("Arm"),
        Column("Verdict"),
        Column("Difference", number=True, help="of the arm minus the reference, with its 95 % interval over seeds"),
        Column("Ratio", number=True, help="of the arm's figure to the reference's, with its 95 % interval over seeds"),
        Column("P(better)", number=True, help="probability that the next run of the arm beats the next of the other"),
        Column("p", number=True, help="corrected for the number of comparisons, the primary metric first"),
        Column("Seeds", number=True, help="of the arm and of the reference"),
        Column("More seeds", number=True, help="more for each arm, for 80 % power at the difference seen"),
    ]
    cells = {cell.key: cell for cell in study.cells}
    order = [one for one in _ordered(study) if primary is None or one.primary == primary]
    rows: list[list[Cell | str]] = []
    for one in order:
        p = one.p if one.p_corrected is None else one.p_corrected
        rows.append([
            cell_name(cells[one.cell]),
            one.arm,
            Cell(one.word, tone=_TONES[one.word], help=_beside(one)),
            Cell(figure_text(one.difference, digits=3, signed=True), _sort(one.difference),
                 help=interval_text(one.low, one.high, signed=True)),
            Cell("" if one.ratio is None else f"×{figure_text(one.ratio, digits=3)}", _sort(one.ratio),
                 help=one.ratio_note or interval_text(one.ratio_low, one.ratio_high)),
            Cell(_chance(one.probability_better), _sort(one.probability_better)),
            Cell(_p_text(p), _sort(p)),
            Cell(" / ".join(map(str, one.num)), float(min(one.num, default=0))),
            Cell(*_more(one)),
        ])  # fmt: skip
    strong = frozenset(number for number, one in enumerate(order) if one.primary and primary is None)
    name, title = ("verdicts-all", "Verdicts") if primary is None else ("verdicts-rest", "All other verdicts")
    if primary:
        name, title = "verdicts-primary", f"Verdicts in the primary metric: {cell_name(study.cell(study.primary))}"
    said = [
        number for number, column in enumerate(columns)
        if not (primary and column.title == "Metric") and (not column.number or any(_text(row[number]) for row in rows))
    ]  # fmt: skip
    columns, rows = [columns[number] for number in said], [[row[number] for number in said] for row in rows]
    notes = [
        f"Each arm is compared with '{study.reference}'; an interval stands below its figure. p is corrected for the "
        "number of comparisons. P(better): how probable it is that the arm's next run beats the reference's. More "
        "seeds: for each arm, to have 80 % power at the difference seen."
    ]
    return _table(name, title, columns, rows, strong, notes, folded=primary is False)


def _table(
    name: str, title: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]],
    strong: frozenset[int] = frozenset(), notes: Sequence[str] = (), *, folded: bool = False,
) -> ReportTable:  # fmt: skip
    """A table of as many rows as a page can hold; the last note says how many there are beyond."""
    more = len(rows) - _MOST_ROWS
    if more > 0:
        notes = [*notes, f"{more:,} further rows are left out here: `csv` writes them all."]
    return ReportTable(name, title, columns, rows[:_MOST_ROWS], strong, notes, folded=folded)


def _text(cell: Cell | str) -> str:
    return cell if isinstance(cell, str) else cell.text


def verdict_tables(study: Study) -> list[ReportTable]:
    """One table, or where it would be long, that of the primary metric and, folded, the others."""
    if len(study.verdicts) <= _SHORT:
        return [verdict_table(study)]
    return [verdict_table(study, primary=True), verdict_table(study, primary=False)]


def _ordered(study: Study) -> list[VerdictRecord]:
    return sorted(study.verdicts, key=lambda one: not one.primary)


def _beside(one: VerdictRecord) -> str:
    """What stands below a verdict's word: why there is none."""
    if one.seeds_alone is not None:
        return f"seeds alone differ by as much in {100 * one.seeds_alone:.0f} % of pairs"
    return one.reason or "" if one.word == "withheld" else ""


def _more(one: VerdictRecord) -> tuple[str, float | str]:
    if one.word in ("better", "worse", "equivalent"):
        return "none", 0.0
    if one.seeds_more is None:
        return ("", "") if one.seeds_more_equivalence is None else (_equivalence(one), float("inf"))
    return f"+{one.seeds_more}", float(one.seeds_more)


def _equivalence(one: VerdictRecord) -> str:
    return f"+{one.seeds_more_equivalence} for equivalence"


def _chance(probability: float | None) -> str:
    """A probability in percent, which no finite number of seeds makes 0 or 100."""
    if probability is None:
        return ""
    return "< 1 %" if probability < 0.01 else "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def _p_text(p: float | None) -> str:
    if p is None:
        return ""
    return f"< {_SMALLEST_P}" if p < _SMALLEST_P else figure_text(p, digits=2)


def _sort(value: float | None) -> float | str:
    return "" if value is None else float(value)


def evidence_table(study: Study) -> ReportTable:
    """What each verdict rests on, in a sentence."""
    cells = {cell.key: cell for cell in study.cells}
    rows: list[list[Cell | str]] = [
        [
            cell_name(cells[one.cell]), one.arm, Cell(one.word, tone=_TONES[one.word]),
            Cell(one.evidence, help=one.reason or ""), one.method or "none",
        ]
        for one in _ordered(study)
    ]  # fmt: skip
    columns = [Column("Metric"), Column("Arm"), Column("Verdict"), Column("Evidence"), Column("Method")]
    return _table("evidence", "Evidence of each verdict", columns, rows, folded=True)


def arms_table(study: Study) -> ReportTable:
    """What the arms are: their differing settings, seeds and runs."""
    columns = [Column("Arm"), *(Column(name) for name in study.differing), Column("Seeds"), Column("Runs")]
    rows: list[list[Cell | str]] = []
    for arm in study.arms:
        sources = ", ".join(member.source for member in arm.members)
        rows.append([
            Cell(arm.name, help="the reference" if arm.name == study.reference else ""),
            *(Cell(_setting(arm.settings.get(name))) for name in study.differing),
            Cell(", ".join(map(str, arm.seeds)), float(len(arm.seeds)), help=f"{len(arm.seeds)} in all"),
            Cell(sources if arm.kind == "runs" else f"{arm.kind} made elsewhere: {sources}"),
        ])  # fmt: skip
    return ReportTable("arms", "Arms: runs that differ in their seed alone", columns, rows)


def metrics_table(study: Study) -> ReportTable:
    """What each metric measures."""
    found = {cell.metric: cell for cell in study.cells}
    rows = [[name, AIM[cell.better], cell.description] for name, cell in found.items()]
    columns = [Column("Metric"), Column("Aim"), Column("What it is")]
    return ReportTable("metrics", "What the metrics measure", columns, rows, folded=True)


def _setting(value: Any) -> str:
    return "none" if value is None else setting_text(value)


def figures_table(study: Study) -> ReportTable:
    """Every metric's mean over seeds, by arm."""
    columns = [Column("Metric"), *(Column(arm.name, number=True) for arm in study.arms), Column("Real images", True)]
    rows: list[list[Cell | str]] = []
    for cell in sorted(study.cells, key=lambda cell: not cell.primary):
        found = {arm.arm: arm for arm in cell.arms}
        rows.append([
            cell_name(cell),
            *(_mean(found.get(arm.name)) for arm in study.arms),
            Cell(figure_text(cell.floor), _sort(cell.floor)),
        ])  # fmt: skip
    strong = frozenset(number for number, _ in enumerate(rows) if number < sum(cell.primary for cell in study.cells))
    notes = [
        "Mean over training seeds ± their standard deviation, and the number of seeds. "
        "The last column is what real images get that were held out."
    ]
    return _table("figures", "Figures by arm", columns, rows, strong, notes)


def _mean(found: ArmFigures | None) -> Cell:
    if found is None or found.mean is None:
        return Cell("", "")
    spread = "" if found.sd is None else f" ± {figure_text(found.sd, digits=2)}"
    count = f"n = {len(found.figures)}"
    return Cell(
        f"{figure_text(found.mean)}{spread}", found.mean, help=f"{count}, no verdict" if found.withheld else count
    )


def seeds_table(study: Study) -> ReportTable:
    """Every seed's figure with its sampling interval."""
    columns = [
        Column("Metric"), Column("Arm"), Column("Seed", number=True), Column("Figure", number=True),
        Column("Sampling interval, 95 %", number=True), Column("Kind"),
    ]  # fmt: skip
    rows: list[list[Cell | str]] = [
        [
            cell_name(cell), arm.arm, Cell(str(one.seed), float(one.seed)),
            Cell(figure_text(one.value, digits=5), one.value),
            Cell(interval_text(one.low, one.high), _sort(one.low)), cell.figure,
        ]
        for cell in study.cells for arm in cell.arms for one in arm.figures
    ]  # fmt: skip
    notes = ["The sampling interval says nothing about other training seeds: it is of images of this very run."]
    return _table("seeds", "Every seed's figures", columns, rows, notes=notes, folded=True)


def warnings_table(study: Study) -> ReportTable:
    """All warnings, where there are more than can stand beside the answer."""
    return ReportTable(
        "warnings", "All warnings", [Column("Warning")], [[text] for text in study.warnings], folded=True
    )


def efficiency_table(study: Study) -> ReportTable:
    """How much sooner arms reach a level than the reference."""
    columns = [
        Column("What"),
        Column("Metric and level"),
        Column("Arm"),
        Column("Speed-up", number=True),
        Column("Reached by"),
    ]
    rows: list[list[Cell | str]] = [
        [
            f"{one.kind}: fewer {_AXIS[one.kind]}",
            f"{one.curve.partition(' against ')[0]} of {figure_text(one.level)}",
            one.arm,
            Cell(_speed_up(one), _sort(one.ratio), help=interval_text(one.low, one.high)),
            Cell(_reached(one), help=one.note or ""),
        ]
        for one in study.efficiency
    ]
    notes = [
        "Speed-ups over the reference, with 95 % intervals over seeds; above 1 the arm is faster. ≥ and ≤ mark limits, "
        "where an arm never reached the level."
    ]
    return ReportTable("efficiency", "Speed-ups", columns, rows, notes=notes)


_AXIS = {"training": "images", "sampling": "steps"}


def _speed_up(one: Efficiency) -> str:
    if one.ratio is None:
        return ""
    sign = "≥ " if one.at_least else "≤ " if one.at_most else ""
    return f"{sign}×{figure_text(one.ratio, digits=3)}"


def _reached(one: Efficiency) -> str:
    parts = []
    for arm, found in one.reached.items():
        known = [x for x in found if x is not None]
        parts.append(f"{arm}: {len(known)} of {len(found)} seeds")
    return "; ".join(parts)


def summary(study: Study) -> str:
    """How many of the further verdicts say what."""
    rest = [one for one in study.verdicts if not one.primary]
    if not rest:
        return ""
    words = [one.word for one in rest]
    counts = ", ".join(f"{words.count(word)} {word}" for word in _TONES if word in words)
    names = listed([arm.name for arm in study.arms if arm.name != study.reference])
    return f"In the other metrics and numbers of steps, for {names}: {counts}."
