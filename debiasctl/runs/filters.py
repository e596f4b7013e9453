"""Filters over runs, such as `loss.weighting=debiased and optimizer.lr<1e-3`: what their conditions ask of a run."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cached_property
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any, get_args

from debiasctl.errors import UsageError
from debiasctl.registry.kinds import KINDS
from debiasctl.registry.metadata import records
from debiasctl.registry.refs import PluginRef, parse_ref, parse_value
from debiasctl.runs.fields import Field, Source, find_field
from debiasctl.runs.labels import Labels, read_labels
from debiasctl.runs.store import Run
from debiasctl.runs.where import Condition, parse_conditions
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.runs.status import RunStatus
    from debiasctl.specs.sections import RunSpec

Test = Callable[[Any], bool]  # of one value of a field, which is never None
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
_TIME = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d)(?::(\d\d)(?::(\d\d))?)?)?)?)?(?:Z|\+00:00)?")
WILDCARDS = re.compile(r"[*?\[]")


class Facts:
    """What a filter asks of a run, each read when it is first asked, and once."""

    def __init__(self, run: Run, status: "RunStatus | None" = None) -> None:
        self.run = run
        if status is not None:
            self.status = status

    @cached_property
    def status(self) -> "RunStatus":
        """How far the run is."""
        return self.run.status()

    @cached_property
    def spec(self) -> "RunSpec":
        """The run's settings."""
        return self.run.spec()

    @cached_property
    def identity(self) -> str | None:
        """The run's identity, as its spec states it."""
        return self.run.identity()

    @cached_property
    def labels(self) -> Labels:
        """The run's tags and note."""
        return read_labels(self.run, identity=lambda: self.identity)

    def values(self, field: Field) -> list[Any]:
        """The run's values of a field: one, or none where it has no such setting, or several where there may be more.

        Raises:
            RunError: if the file that holds them cannot be read.
        """
        found: Any
        if field.source == "name":
            found = self.run.name
        elif field.source == "status":
            found = getattr(self.status, field.name)
        elif field.source == "labels":
            found = self.labels.tags if field.name == "tag" else self.labels.note or None
        elif not self.spec.is_known(field.name):
            found = None
        elif field.name == "images":
            found = self.spec.training.steps * self.spec.training.batch_size
        else:
            found = _setting(self.spec, field.name.split("."))
        several = field.kind in ("plugin", "text") and isinstance(found, tuple)
        return list(found) if several else [] if found is None else [found]


@dataclass(frozen=True)
class Filter:
    """Conditions that a run has to meet, all of them; `text` is how they were written.

    `excluded` are the plugins that conditions exclude by `!=`, each with its setting.
    """

    text: str
    tests: tuple[tuple[Field, Callable[[list[Any]], bool]], ...]
    excluded: tuple[tuple[Field, str], ...] = ()

    def matches(self, run: "Run | Facts", status: "RunStatus | None" = None) -> bool:
        """Whether a run meets every condition; what is cheap to read is asked first, and no more than it takes.

        Raises:
            RunError: if a file that the answer depends on cannot be read.
        """
        facts = run if isinstance(run, Facts) else Facts(run, status)
        return all(test(facts.values(field)) for field, test in self.tests)

    def check_names(self, facts: Sequence[Facts]) -> None:
        """Check, over all runs that were asked, the names that only they tell: those of plugins, and of their options.

        A mistyped name after `!=` would exclude nothing, and a command would then act on every run.

        Raises:
            UsageError: if no run has such an option, or an excluded plugin is neither theirs nor installed.
            RunError: if a spec cannot be read.
        """
        for field, name in self.excluded if facts else ():
            theirs = {plugin.name for one in facts for plugin in one.values(field)}
            installed = {record.name for kind in KINDS for record in records(kind)}
            if name not in theirs | installed:
                raise UsageError(
                    f"`where`: {field.name} is never {quoted(name)}.{did_you_mean(name, theirs | installed)} "
                    f"In these runs, it is {', '.join(sorted(theirs)) or 'not set'}"
                )
        self._check_options(facts)

    def _check_options(self, facts: Sequence[Facts]) -> None:
        wanted = {field.name: field.option_of for field, _ in self.tests if field.option_of}
        known: dict[str, set[str]] = {setting: set() for setting in wanted.values() if setting}
        for one in facts if wanted else ():
            for setting in known:
                for plugin in one.values(Field(setting, "plugin")):
                    known[setting] |= plugin.options.keys()
        for name, setting in wanted.items() if facts else ():
            option = name.removeprefix(f"{setting}.").partition(".")[0]
            options = known[setting or ""]
            if option not in options:
                raise UsageError(
                    f"`where`: no run's {setting} has an option {quoted(option)}.{did_you_mean(option, options)} "
                    f"They have: {', '.join(sorted(options)) or 'none'}"
                )


def parse_where(text: str, short: Mapping[str, str] | None = None) -> Filter:
    """Read conditions such as `loss.weighting=debiased and optimizer.lr<1e-3`, joined by `and`.

    A field is one of `fields.OWN`, or a setting as in a spec, or one of the `short` names, each of a setting. A plugin
    is compared by its name, and by those of its options that are given. Numbers are compared as numbers, times by the
    span that is written (`created>=2026-05` is from that May on), and names, tags and notes with `*`, `?` and `[...]`,
    unless they stand in quotes. `null` is what is not set. A run that lacks a setting meets its `!=`, and nothing else.

    Raises:
        UsageError: if it cannot be read, or a field is unknown, or a value is none that the field may have.
    """
    tests, excluded = [], []
    for condition in parse_conditions(text):
        field = find_field(condition.field, short or {})
        tests.append((field, _test(field, condition)))
        if field.kind == "plugin" and condition.operator == "!=" and (condition.literal or condition.value != "null"):
            excluded.append((field, parse_ref(condition.value).name))
    order = get_args(Source)
    return Filter(text, tuple(sorted(tests, key=lambda one: order.index(one[0].source))), tuple(excluded))


def _test(field: Field, condition: Condition) -> Callable[[list[Any]], bool]:
    if not condition.literal and condition.value == "null":
        if condition.operator in _ORDERS:
            raise _bad(condition, "null, which is not set, is compared with = and != alone")
        return (lambda values: not values) if condition.operator == "=" else bool
    makers: Mapping[str, Callable[[Field, Condition], Test]] = {
        "plugin": _plugin, "choice": _choice, "truth": _choice, "number": _number, "text": _text, "time": _time,
        "value": _value,
    }  # fmt: skip
    if condition.operator in _ORDERS and field.kind in ("plugin", "choice", "truth", "text"):
        raise _bad(condition, f"{condition.field} has no order: compare it with = or !=")
    test = makers[field.kind](field, condition)
    if condition.operator == "!=":
        return lambda values: not any(map(test, values))
    return lambda values: any(map(test, values))


def _plugin(field: Field, condition: Condition) -> Test:
    wanted = parse_ref(condition.value)
    return lambda stored: _same_plugin(stored.name, stored.options, wanted)


def _choice(field: Field, condition: Condition) -> Test:
    choices = field.choices if field.kind == "choice" else ("true", "false")
    if condition.value not in choices:
        hint = did_you_mean(condition.value, choices)
        raise _bad(
            condition, f"{field.name} is never {quoted(condition.value)}.{hint} It is one of {', '.join(choices)}"
        )
    return lambda stored: _same(stored, condition.value)


def _number(field: Field, condition: Condition) -> Test:
    wanted = _as_number(condition.value)
    if wanted is None:
        raise _bad(condition, f"{field.name} is a number, and {quoted(condition.value)} is none")
    return _compared(condition.operator, wanted)


def _text(field: Field, condition: Condition) -> Test:
    if condition.literal or not WILDCARDS.search(condition.value) or field.source == "spec":
        return lambda stored: bool(stored == condition.value)
    return lambda stored: fnmatchcase(stored, condition.value)


def _time(field: Field, condition: Condition) -> Test:
    start, end = _span(condition)
    return {
        "<": lambda stored: datetime.fromisoformat(stored) < start,
        "<=": lambda stored: datetime.fromisoformat(stored) < end,
        ">": lambda stored: datetime.fromisoformat(stored) >= end,
        ">=": lambda stored: datetime.fromisoformat(stored) >= start,
    }.get(condition.operator, lambda stored: start <= datetime.fromisoformat(stored) < end)


def _value(field: Field, condition: Condition) -> Test:
    """An option of a plugin, or another value whose type is known only when it is seen."""
    if condition.operator in _ORDERS:
        return _number(field, condition)
    wanted = condition.value if condition.literal else parse_value(condition.value, str(condition))
    return lambda stored: _same(stored, wanted)


def _compared(operator: str, wanted: float) -> Test:
    order = _ORDERS.get(operator)

    def test(stored: Any) -> bool:
        if isinstance(stored, bool) or not isinstance(stored, int | float):
            return False
        return order(stored, wanted) if order else stored == wanted

    return test


def _same(stored: Any, wanted: Any) -> bool:
    """Whether a stored value is the one that was written, as text or as parts of JSON."""
    if isinstance(stored, bool):
        return wanted is stored or wanted == ("true" if stored else "false")
    if isinstance(stored, int | float):
        return (_as_number(wanted) if isinstance(wanted, str) else wanted) == stored and not isinstance(wanted, bool)
    if isinstance(stored, list | tuple):
        same_length = isinstance(wanted, list | tuple) and len(wanted) == len(stored)
        return same_length and all(map(_same, stored, wanted))
    if isinstance(stored, Mapping):
        if {"name", "options"} <= stored.keys() and isinstance(wanted, str):  # a plugin among another's options
            return _same_plugin(stored["name"], stored["options"], parse_ref(wanted))
        same_keys = isinstance(wanted, Mapping) and stored.keys() == wanted.keys()
        return same_keys and all(_same(stored[key], wanted[key]) for key in stored)
    return bool(stored == wanted)


def _same_plugin(name: str, options: Mapping[str, Any], wanted: PluginRef) -> bool:
    given = wanted.options
    return name == wanted.name and all(key in options and _same(options[key], given[key]) for key in given)


def _as_number(text: str) -> int | float | None:
    """The finite number that a text is; whole ones are exact."""
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _span(condition: Condition) -> tuple[datetime, datetime]:
    """The time that is written, as far as it is: its begin, and its end, which is no more part of it."""
    found = _TIME.fullmatch(condition.value)
    try:
        if found is None:
            raise ValueError("it is not written so")
        year, month, day, hour, minute, second = (None if one is None else int(one) for one in found.groups())
        start = datetime(year or 0, month or 1, day or 1, hour or 0, minute or 0, second or 0, tzinfo=UTC)
        if month is None:
            return start, start.replace(year=start.year + 1)
        if day is None:
            return start, (start + timedelta(days=31)).replace(day=1)
        size = {"days": 1} if hour is None else {"hours": 1} if minute is None else {"minutes": 1}
        return start, start + timedelta(**(size if second is None else {"seconds": 1}))
    except (ValueError, OverflowError) as error:
        raise _bad(
            condition,
            f"{condition.field} is a time, and {quoted(condition.value)} is none: write 2026-05-31, 2026-05, or "
            "2026-05-31T14:30 (in UTC)",
        ) from error


def _setting(spec: "RunSpec", parts: Sequence[str]) -> Any:
    """The value at a path in a spec; None where the spec has no such part."""
    value: Any = spec
    for number, part in enumerate(parts):
        if isinstance(value, Mapping):
            rest = ".".join(parts[number:])
            if rest in value:  # a key that holds dots
                return value[rest]
            value = value.get(part)
        elif part in getattr(value, "options", {}):
            value = value.options[part]
        else:
            value = getattr(value, part, None)
    return value


def _bad(condition: Condition, problem: str) -> UsageError:
    return UsageError(f"`where`: {quoted(condition)}: {problem}")
