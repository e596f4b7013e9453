"""The columns of an overview of runs: what each is called, shows, and is sorted by; any setting is one too."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.cli import options
from debiasctl.errors import RunError, UsageError
from debiasctl.wording import did_you_mean, format_bytes, format_duration, format_rate, quoted

if TYPE_CHECKING:
    from debiasctl.runs.fields import Field
    from debiasctl.runs.overview import Overview

_NOTE_LETTERS = 60
_STATES = ("training", "created", "interrupted", "failed", "finished", "imported", "damaged")


@dataclass(frozen=True)
class Column:
    """A column: the text that a terminal shows, and the value that other programs read; "" and None where none is.

    `optional` ones are left out by default where no run has anything in them, `further` ones always.
    """

    key: str
    title: str
    text: "Callable[[Overview], str]"
    value: "Callable[[Overview], Any]"
    optional: bool = False
    further: bool = False


def _status(key: str, title: str, name: str, *, further: bool = False) -> Column:
    """A column of a status' field; of times, the minute is shown."""

    def value(one: "Overview") -> Any:
        return None if one.is_damaged else getattr(one.status, name)

    def text(one: "Overview") -> str:
        found = value(one)
        if found is not None and name in ("created", "updated"):
            return str(found)[:16].replace("T", " ")
        return "" if found is None else str(found)

    return Column(key, title, text, value, further=further)


def _step(one: "Overview") -> str:
    return "" if one.is_damaged or one.summary.state == "imported" else f"{one.step}/{one.status.num_steps}"


def _speed(one: "Overview") -> float | None:
    return None if one.latest is None else one.latest.images_per_second


def _loss(one: "Overview") -> float | None:
    return None if one.latest is None else one.latest.loss


def _best(one: "Overview") -> float | None:
    return None if one.best is None else one.best.value


def _metric(one: "Overview") -> str | None:
    if one.best is None:
        return None
    return one.best.metric if one.best.steps is None else f"{one.best.metric}@{one.best.steps}"


def _short_note(one: "Overview") -> str:
    note = " ".join(one.shown_labels.note.split())
    return note if len(note) <= _NOTE_LETTERS else f"{note[: _NOTE_LETTERS - 1]}…"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


COLUMNS: dict[str, Column] = {
    one.key: one
    for one in (
        Column("name", "NAME", lambda one: one.run.name, lambda one: one.run.name),
        Column("state", "STATE", lambda one: one.summary.state, lambda one: one.summary.state),
        Column("step", "STEP", _step, lambda one: one.step),
        _status("dataset", "DATASET", "dataset"),
        _status("weighting", "WEIGHTING", "weighting"),
        _status("seed", "SEED", "seed"),
        Column(
            "best", "BEST", lambda one: _number(_best(one), ".4g"), _best, optional=True,
        ),
        Column("metric", "METRIC", lambda one: _metric(one) or "", _metric, optional=True),
        Column(
            "speed", "IMAGES/S", lambda one: "" if _speed(one) is None else format_rate(_speed(one) or 0.0), _speed,
            further=True,
        ),
        Column(
            "left", "LEFT", lambda one: "" if one.seconds_left is None else format_duration(one.seconds_left),
            lambda one: one.seconds_left, optional=True,
        ),
        Column("loss", "LOSS", lambda one: _number(_loss(one), ".4f"), _loss, further=True),
        Column(
            "tags", "TAGS", lambda one: ", ".join(one.shown_labels.tags),
            lambda one: " ".join(one.shown_labels.tags) or None, optional=True,
        ),
        Column("note", "NOTE", _short_note, lambda one: one.shown_labels.note or None, further=True),
        Column("disk", "DISK", lambda one: format_bytes(one.disk), lambda one: one.disk, further=True),
        _status("created", "CREATED (UTC)", "created"),
        _status("updated", "UPDATED (UTC)", "updated", further=True),
    )
}  # fmt: skip


def useful_columns(found: "Sequence[Overview]", *, everything: bool = False) -> list[Column]:
    """All columns, or those that say something by default; the speed while something is trained."""
    if everything:
        return list(COLUMNS.values())
    running = any(one.summary.state == "training" for one in found)
    return [
        one
        for one in COLUMNS.values()
        if (running if one.key == "speed" else not one.further and (not one.optional or any(map(one.text, found))))
    ]


def chosen_columns(text: str) -> list[Column]:
    """The columns of a list such as `name,lr,best`.

    Raises:
        UsageError: if one is neither a column nor a setting.
    """
    keys = [key.strip() for key in text.split(",")]
    if not all(keys):
        raise UsageError(f"`shown_columns` {quoted(text)}: give names of columns, separated by commas")
    return [find_column(key, argument="shown_columns") for key in dict.fromkeys(keys)]


def find_column(key: str, *, argument: str) -> Column:
    """The column of that name, or one for a setting by its short or whole name; `argument` names it in messages.

    Raises:
        UsageError: if there is neither.
    """
    from debiasctl.runs.fields import find_field

    if key in COLUMNS:
        return COLUMNS[key]
    try:
        field = find_field(key, options.short_names())
    except UsageError as error:
        hint = did_you_mean(key, [*COLUMNS, *options.short_names()])
        raise UsageError(
            f"`{argument}`: there is no column {quoted(key)}.{hint} Known: {', '.join(COLUMNS)}, and a run's settings "
            "by their names: lr, batch-size, optimizer.betas, … (debiasctl spec describe)"
        ) from error
    return Column(key, key.upper(), lambda one: _as_text(_values(one, field)), lambda one: _plain(_values(one, field)))


def ordered(found: "Sequence[Overview]", text: str) -> "list[Overview]":
    """Runs sorted by a column, with '-' before it the largest first; those without a value in it are always last.

    Raises:
        UsageError: if there is no such column.
    """
    column = find_column(text.removeprefix("-"), argument="sort")
    keyed = [(one, _key(column, one)) for one in found]
    has = [pair for pair in keyed if pair[1] is not None]
    has.sort(key=lambda pair: pair[1], reverse=text.startswith("-"))
    return [one for one, _ in has] + [one for one, key in keyed if key is None]


def _key(column: Column, one: "Overview") -> Any:
    value = column.value(one)
    if value is None:
        return None
    if column.key == "state":
        return _STATES.index(value)
    if column.key == "best":
        return (_metric(one), one.status.dataset, value)
    if isinstance(value, bool | int | float):
        return (0, value, ())
    return (1, 0, [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in _parts(str(value))])


def _parts(text: str) -> list[str]:
    """A name's letters and its numbers, so that a-9 comes before a-10."""
    return [part for part in re.split(r"([0-9]{1,18})", text) if part]


def _values(one: "Overview", field: "Field") -> list[Any]:
    if one.is_damaged and field.source != "name":
        return []
    try:
        return one.values(field)
    except RunError as error:
        if str(error) not in one.problems:
            one.problems.append(str(error))
        return []


def _as_text(values: Sequence[Any]) -> str:
    return ", ".join(str(_plain([value])) for value in values)


def _plain(values: Sequence[Any]) -> Any:
    """A setting's value as other programs read it: a number, or text."""
    import json

    if not values:
        return None
    if len(values) > 1:
        return " ".join(str(_plain([value])) for value in values)
    value = getattr(values[0], "ref", values[0])
    if isinstance(value, bool):
        return "true" if value else "false"
    return (
        json.dumps(value)
        if isinstance(value, list | tuple | dict)
        else value
        if isinstance(value, int | float)
        else str(value)
    )


def complete_columns(incomplete: str) -> list[str]:
    """Names of columns, separated by commas."""
    before, comma, last = incomplete.rpartition(",")
    used = before.split(",")
    names = [*COLUMNS, *options.short_names()]
    return [f"{before}{comma}{name}" for name in dict.fromkeys(names) if name.startswith(last) and name not in used]


def complete_sort(incomplete: str) -> list[str]:
    """Names of columns, with '-' before them or not."""
    sign = "-" if incomplete.startswith("-") else ""
    return [f"{sign}{name}" for name in COLUMNS if name.startswith(incomplete.removeprefix("-"))]
