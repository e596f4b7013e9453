"""The tables of a study: verdicts and figures, with the columns and rows that were chosen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.errors import UsageError
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.comparison.study_record import ArmFigures, Study, StudyCell, VerdictRecord

_DASH = "-"


@dataclass(frozen=True)
class Row:
    """One arm in one cell; `verdict` is None for the reference."""

    cell: "StudyCell"
    figures: "ArmFigures"
    verdict: "VerdictRecord | None"


@dataclass(frozen=True)
class Column:
    """A column: its cell as text for people, and its value for files and for sorting."""

    name: str
    text: Callable[[Row], str]
    value: Callable[[Row], Any]


def number(value: float | None, *, sign: bool = False) -> str:
    """A figure in three or four digits."""
    if value is None:
        return _DASH
    return f"{value:+.3g}" if sign else f"{value:.4g}"


def limits(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """An interval as text: `(low to high)`, `(from low)`, `(up to high)`, or nothing."""
    at = ["" if end is None else f"{end:+.3g}" if sign else f"{end:.3g}" for end in (low, high)]
    if all(at):
        return f"({at[0]} to {at[1]})"
    return f"(from {at[0]})" if at[0] else f"(up to {at[1]})" if at[1] else ""


def _of(name: str) -> Callable[[Row], Any]:
    return lambda row: None if row.verdict is None else getattr(row.verdict, name)


def _difference(row: Row) -> str:
    one = row.verdict
    if one is None or one.difference is None:
        return _DASH
    return f"{number(one.difference, sign=True)} {limits(one.low, one.high, sign=True)}".rstrip()


def _ratio(row: Row) -> str:
    one = row.verdict
    if one is None or one.ratio is None:
        return _DASH
    within = limits(one.ratio_low, one.ratio_high)
    return f"× {one.ratio:.3g} {within or ('(unbounded)' if one.ratio_note else '')}".rstrip()


def _word(row: Row) -> str:
    return "reference" if row.verdict is None else row.verdict.word


def _more(row: Row) -> str:
    one = row.verdict
    if one is None or one.word in ("withheld", "better", "worse", "equivalent"):
        return _DASH
    return _DASH if one.seeds_more is None else f"{one.seeds_more}"


def _mean(row: Row) -> str:
    spread = "" if row.figures.sd is None else f" ± {row.figures.sd:.2g}"
    return f"{number(row.figures.mean)}{spread}"


def _percent(name: str) -> Callable[[Row], str]:
    value = _of(name)

    def text(row: Row) -> str:
        found = value(row)
        if found is None:
            return _DASH
        return "> 99 %" if found > 0.99 else "< 1 %" if found < 0.01 else f"{100 * found:.0f} %"

    return text


def _condition(field: str) -> Column:
    return Column(field, lambda row: str(row.cell.measured.get(field)), lambda row: row.cell.measured.get(field))


COLUMNS: dict[str, Column] = {
    one.name: one
    for one in (
        Column("metric", lambda row: row.cell.metric, lambda row: row.cell.metric),
        Column("steps", lambda row: number(row.cell.steps), lambda row: row.cell.steps),
        Column("condition", lambda row: _rest(row) or _DASH, lambda row: _rest(row)),
        Column("arm", lambda row: row.figures.arm, lambda row: row.figures.arm),
        Column("verdict", _word, _word),
        Column("figure", _mean, lambda row: row.figures.mean),
        Column("sd", lambda row: number(row.figures.sd), lambda row: row.figures.sd),
        Column("difference", _difference, _of("difference")),
        Column("low", lambda row: number(_of("low")(row), sign=True), _of("low")),
        Column("high", lambda row: number(_of("high")(row), sign=True), _of("high")),
        Column("ratio", _ratio, _of("ratio")),
        Column("ratio_low", lambda row: number(_of("ratio_low")(row)), _of("ratio_low")),
        Column("ratio_high", lambda row: number(_of("ratio_high")(row)), _of("ratio_high")),
        Column("probability", _percent("probability_better"), _of("probability_better")),
        Column("more_seeds", _more, _of("seeds_more")),
        Column(
            "more_seeds_for_equivalence",
            lambda row: number(_of("seeds_more_equivalence")(row)),
            _of("seeds_more_equivalence"),
        ),
        Column("p", lambda row: number(_of("p")(row)), _of("p")),
        Column("p_corrected", lambda row: number(_of("p_corrected")(row)), _of("p_corrected")),
        Column("method", lambda row: _of("method")(row) or _DASH, _of("method")),
        Column("correlation", lambda row: number(_of("seed_correlation")(row)), _of("seed_correlation")),
        Column("seeds", lambda row: str(len(row.figures.figures)), lambda row: len(row.figures.figures)),
        Column("floor", lambda row: number(row.cell.floor), lambda row: row.cell.floor),
        Column("better", lambda row: _better(row), lambda row: _better(row)),
        Column("primary", lambda row: "yes" if row.cell.primary else "", lambda row: row.cell.primary),
        Column("reason", lambda row: _of("reason")(row) or "", _of("reason")),
        Column("evidence", lambda row: _of("evidence")(row) or "", _of("evidence")),
        *map(_condition, ("sampler", "num", "features", "dataset", "reference", "weights", "precision", "class")),
    )
}
_DEFAULT = ("metric", "steps", "condition", "arm", "verdict", "difference", "ratio", "probability", "more_seeds")


def _rest(row: Row) -> str:
    """What else tells a cell from those of its metric and steps: a block, or how it was measured."""
    return row.cell.key.partition(" ")[2]


def _better(row: Row) -> str:
    return "closer to 0" if row.cell.better == "zero" else row.cell.better


@dataclass(frozen=True)
class Choice:
    """Which rows and columns are shown: `columns` None: those of the default that differ; `top` None: all."""

    columns: tuple[str, ...] | None = None
    everything: bool = False
    sort: str | None = None
    top: int | None = None


def parse_choice(columns: str | None, sort: str | None, *, everything: bool, top: int | None) -> Choice:
    """Which rows and columns of the tables were asked for.

    Raises:
        UsageError: if a column is unknown, or both all and some were asked for.
    """
    named = None if columns is None else tuple(part.strip() for part in columns.split(",") if part.strip())
    if named is not None and everything:
        raise UsageError("--all shows all columns, and --columns some. Give one of them")
    if named == ():
        raise UsageError(f"--columns names none. Known: {', '.join(COLUMNS)}")
    for name in [*(named or ()), *([] if sort is None else [sort.removeprefix("-")])]:
        if name not in COLUMNS:
            option = "--sort" if named is None or name not in named else "--columns"
            raise UsageError(
                f"{option}: unknown column {quoted(name)}.{did_you_mean(name, list(COLUMNS))} "
                f"Known: {', '.join(COLUMNS)}"
            )
    return Choice(named, everything, sort, top)


def rows_of(study: "Study", *, reference: bool = False) -> list[Row]:
    """The rows, those of the primary cell first; with those of the `reference` too."""
    verdicts = {(one.cell, one.arm): one for one in study.verdicts}
    cells = sorted(study.cells, key=lambda cell: not cell.primary)
    rows = [Row(cell, arm, verdicts.get((cell.key, arm.arm))) for cell in cells for arm in cell.arms]
    return [row for row in rows if reference or row.verdict is not None]


def chosen_rows(study: "Study", choice: Choice, *, reference: bool = False) -> tuple[list[Row], int]:
    """The rows to show, and how many more there are.

    By default they are those measured as the primary metric was; `everything`, an order or a number asks for all.
    """
    rows = rows_of(study, reference=reference)
    every = len(rows)
    if not choice.everything and choice.sort is None and choice.top is None:
        like = _measurement(study.cell(study.primary))
        rows = [row for row in rows if _measurement(row.cell) == like]
    if choice.sort is not None:
        column = COLUMNS[choice.sort.removeprefix("-")]
        known = [row for row in rows if column.value(row) is not None]
        ordered = sorted(known, key=lambda row: _sortable(column.value(row)), reverse=choice.sort.startswith("-"))
        rows = [*ordered, *(row for row in rows if column.value(row) is None)]
    rows = rows[: choice.top]
    return rows, every - len(rows)


def _sortable(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _measurement(cell: "StudyCell") -> list[tuple[str, Any]]:
    """How a cell was measured, but for features, which metrics of pixels have none of."""
    return [(name, value) for name, value in cell.measured.items() if not name.startswith("features")]


def chosen_columns(rows: Sequence[Row], choice: Choice) -> list[Column]:
    """The columns to show: those named, or all, or of the default ones those that say something."""
    if choice.columns is not None:
        return [COLUMNS[name] for name in choice.columns]
    if choice.everything:
        return [column for column in COLUMNS.values() if column.name != "evidence"]
    texts = {name: {COLUMNS[name].text(row) for row in rows} for name in _DEFAULT}
    said = [name for name in _DEFAULT if texts[name] != {_DASH}]
    return [COLUMNS[name] for name in said if name != "steps" or len(texts[name]) > 1]
