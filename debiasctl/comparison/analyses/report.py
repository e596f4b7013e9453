"""An analysis as sections of a report, and as a report of its own."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import JsonValue

from debiasctl.comparison.analyses.findings import answer_of, findings_between, findings_of
from debiasctl.comparison.analyses.means import Curve, Figure, curves_of, differences_of, figures_of
from debiasctl.comparison.analyses.pictures import pictures_by_part
from debiasctl.comparison.analyses.results import Analysis, PartResult
from debiasctl.comparison.study_parts import environment, software
from debiasctl.comparison.words import fewer, figure_text, interval_text
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.report.document import Cell, Column, Points, Report, ReportPicture, ReportTable, Section
from debiasctl.reporting.study_data import Mean
from debiasctl.reporting.study_pictures import svg_of

_SHORT = 12  # figures that are read at a glance
_MOST_ROWS = 1500
_LONGEST = 200  # letters of a setting
_OVER = {
    "seeds": "over training seeds",
    "images": "over images, of one training seed",
    "runs": "over runs",
    None: "no interval",
}
Drawing = Callable[[str, str], str]


def report_of_analysis(
    analysis: Analysis, *, weightings: Mapping[str, str], command: str, drawing: Drawing
) -> Report:  # fmt: skip
    """The report of an analysis; `command` makes it again, and `drawing` gives that for a picture of a part.

    Raises:
        EvaluationError: if the stored arrays of a picture are damaged.
    """
    arms = analysis.arms
    names = "1 run" if sum(len(arm.runs) for arm in arms) == 1 else f"{sum(len(arm.runs) for arm in arms)} runs"
    seeds = sorted({len(arm.seeds) for arm in arms})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return Report(
        f"Analysis of {names} on {analysis.dataset}", answer_of(analysis.parts),
        [
            *sections_of(analysis, weightings=weightings, drawing=drawing),
            Section("What was analysed", tables=[_runs(analysis), _settings(analysis)]),
        ],
        [
            *(f"Warning: {text}" for text in analysis.warnings),
            *(f"Left out: {text}" for text in analysis.skipped),
            f"{count} training {'seed' if count == '1' else 'seeds'} an arm. Intervals are 95 % ones: over training "
            "seeds where an arm has several, else over images, which says nothing of other seeds.",
            *analysis.notes,
        ],
        {"Report": environment(()) | software(), "Measured": _measured(analysis)},
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), command,
    )  # fmt: skip


def sections_of(analysis: Analysis, *, weightings: Mapping[str, str], drawing: Drawing) -> list[Section]:
    """A section for each part: what was found, its figures, its pictures and, folded, its series.

    Raises:
        EvaluationError: if the stored arrays of a picture are damaged.
    """
    pictures = pictures_by_part(analysis, weightings)
    return [
        Section(
            result.heading, findings_between(result), [figures_table(result), *_series_tables(result)],
            [_drawn(one, drawing(result.part.name, one.name)) for one in pictures[result.part.name]], _points(result),
        )
        for result in analysis.parts
    ]  # fmt: skip


def _points(result: PartResult) -> list[Points]:
    """Each first run's findings, and notes on how they were measured."""
    notes = dict.fromkeys(note for entry in result.entries for note in entry.record.notes)
    found = [Points(run, texts) for run, texts in findings_of(result) if texts]
    return [*found, *([Points("Notes", [f"{note[:1].upper()}{note[1:]}" for note in notes])] if notes else [])]


def _drawn(picture: Picture, command: str) -> ReportPicture:
    return ReportPicture(
        picture.name, picture.title, picture.caption, svg_of(picture.draw("page")), picture.alt,
        command, picture.data, svg_of(picture.draw("column")),
    )  # fmt: skip


def figures_table(result: PartResult) -> ReportTable:
    """A part's figures, by arm, with the differences from the first arm."""
    arms = {name: {one.name: one for one in figures_of(entries)} for name, entries in result.arms.items()}
    apart = {one.arm: {figure.name: figure for figure in one.figures} for one in differences_of(result)}
    seeds = {one.arm: len(one.seeds) for one in differences_of(result)}
    told = {name: figure for figures in arms.values() for name, figure in figures.items()}
    columns = [
        Column("Figure"), *(Column(name, number=True) for name in arms),
        *(Column(f"{name} − {next(iter(arms))}", number=True) for name in apart),
    ]  # fmt: skip
    rows: list[list[Cell | str]] = [
        [
            Cell(name, help="; ".join(filter(None, (figure.text, figure.unit)))),
            *(_cell(of.get(name), of=len(result.arms[arm])) for arm, of in arms.items()),
            *(_cell(of.get(name), of=seeds[arm], signed=True) for arm, of in apart.items()),
        ]
        for name, figure in told.items()
    ]
    over = sorted({_OVER[one.over] for of in (*arms.values(), *apart.values()) for one in of.values()})
    notes = [f"Below a figure stands its 95 % interval: {'; '.join(over)}."] if rows else []
    return ReportTable(
        f"{result.part.name}-figures", f"Figures of {result.part.name}", columns, rows, notes=notes,
        folded=len(rows) > _SHORT,
    )  # fmt: skip


def _cell(figure: Figure | None, *, of: int, signed: bool = False) -> Cell:
    if figure is None:
        return Cell("", "")
    return Cell(
        figure_text(figure.value, digits=4, signed=signed), figure.value,
        help=f"{interval_text(figure.low, figure.high, signed=signed)}{fewer(len(figure.seeds), of)}".lstrip(),
    )  # fmt: skip


def _series_tables(result: PartResult) -> list[ReportTable]:
    """All series of a part in one folded table, an arm a column."""
    arms = {name: {one.name: one for one in curves_of(entries)} for name, entries in result.arms.items()}
    told = {name: curve for curves in arms.values() for name, curve in curves.items()}
    rows = [row for name, curve in told.items() for row in _rows(curve, [of.get(name) for of in arms.values()])]
    if not rows:
        return []
    notes = [f"{name}: {curve.text}" for name, curve in told.items() if curve.text]
    if len(rows) > _MOST_ROWS:
        notes.append(f"{len(rows) - _MOST_ROWS:,} further rows are left out here: `json` prints them all.")
    columns = [Column("Series"), Column("Along"), Column("At", number=True)]
    columns += [Column(name, number=True) for name in arms]
    return [ReportTable(
        f"{result.part.name}-series", f"Series of {result.part.name}", columns, rows[:_MOST_ROWS], notes=notes,
        folded=True,
    )]  # fmt: skip


def _rows(told: Curve, curves: Sequence[Curve | None]) -> list[list[Cell | str]]:
    at = [{} if curve is None else {mean.x: mean for mean in curve.means} for curve in curves]
    return [
        [
            Cell(told.name, help=told.unit), told.axis, Cell(figure_text(x, digits=4), x),
            *(_cell_at(of.get(x)) for of in at),
        ]
        for x in sorted({x for of in at for x in of})
    ]  # fmt: skip


def _cell_at(mean: Mean | None) -> Cell:
    if mean is None:
        return Cell("", "")
    return Cell(figure_text(mean.value), mean.value, help=interval_text(mean.low, mean.high))


def _runs(analysis: Analysis) -> ReportTable:
    rows: list[list[Cell | str]] = [
        [arm.name, Cell(", ".join(map(str, arm.seeds)), float(len(arm.seeds))), ", ".join(arm.runs)]
        for arm in analysis.arms
    ]  # fmt: skip
    return ReportTable("runs", "Arms: runs that differ in their seed alone",
                       [Column("Arm"), Column("Seeds"), Column("Runs")], rows)  # fmt: skip


def _settings(analysis: Analysis) -> ReportTable:
    """What each part was measured with, where all its records agree."""
    rows: list[list[Cell | str]] = []
    for result in analysis.parts:
        first, *others = [entry.record.settings for entry in result.entries]
        rows += [
            [result.part.name, name, _plain(value) if all(one.get(name) == value for one in others) else "differs"]
            for name, value in first.items()
        ]
    return ReportTable(
        "settings", "Settings of the measurements", [Column("Part"), Column("Setting"), Column("Value")], rows,
        folded=True,
    )  # fmt: skip


def _plain(value: JsonValue) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _measured(analysis: Analysis) -> dict[str, str]:
    networks = [entry.record.network for result in analysis.parts for entry in result.entries]
    steps = sorted({one.checkpoint for one in networks})
    return {
        "data set": analysis.dataset,
        "checkpoint": ", ".join(map(str, steps)),
        "weights": ", ".join(dict.fromkeys(one.weights for one in networks)),
    }
