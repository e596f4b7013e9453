"""JSON, YAML and TOML from anyone: keys given once, finite numbers, no more depth or size than settings have."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from debiasctl.reading.regular import JSON_LIMIT, decode_text, read_bytes
from debiasctl.wording import one_line, quoted

MAX_DEPTH = 100  # of lists and mappings in one another
YAML_LIMIT = 4 * 2**20  # bytes; PyYAML reads half a megabyte a second
MAX_NODES = 1_000_000  # of a YAML document, with every alias written out
_TOO_DEEP = f"it is nested too deeply, in more than {MAX_DEPTH} levels"


def read_json(path: Path, *, limit: int = JSON_LIMIT) -> dict[str, Any]:
    """Read the JSON object in a regular file.

    Raises:
        OSError: if it cannot be read; ValueError: if it is too large or not one, or `parse_json` raises it.
    """
    value = parse_json(read_bytes(path, limit=limit))
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def parse_json(text: str | bytes) -> Any:
    """Parse a JSON value, with or without a byte order mark before it.

    Raises:
        ValueError: if it is not JSON, gives a key twice, holds NaN, infinity or a number beyond the range of floats, or
            is nested too deeply.
    """
    decoded = (decode_text(text) if isinstance(text, bytes) else text).removeprefix("\ufeff")
    with _recursion_reported():
        value = json.loads(
            decoded, object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_integer
        )
    return _checked(value)


def parse_toml(text: str) -> Any:
    """Parse TOML.

    Raises:
        ValueError: if it is not TOML, or is nested too deeply.
    """
    import tomllib

    with _recursion_reported():
        value = tomllib.loads(text)
    return _checked(value)


def parse_yaml(text: str) -> Any:
    """Parse one YAML document with the words of YAML 1.2: only true and false are truth values, 010 is no octal number.

    Raises:
        ValueError: if it is not YAML, gives a key twice, has tags or a key that is not text, is nested too deeply, or
            is too large with its aliases written out.
    """
    import yaml

    from debiasctl.reading.yaml_loader import load

    if len(text) > YAML_LIMIT:
        raise ValueError(f"it has {len(text):,} characters, and at most {YAML_LIMIT:,} of YAML are read. Use JSON")
    try:
        with _recursion_reported():
            value = load(text, max_nodes=MAX_NODES, max_depth=MAX_DEPTH)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(one_line(f"{getattr(error, 'problem', None) or error}{where}")) from error
    return _checked(value)


@contextmanager
def _recursion_reported() -> Iterator[None]:
    """Report a document too deep for its parser as those are that are too deep for us."""
    try:
        yield
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def _checked(value: Any) -> Any:
    check_shape(value)
    return value


def yaml_lines(text: str) -> dict[tuple[str | int, ...], int]:
    """The line, from 1, of each key and item of a YAML document that `parse_yaml` has read."""
    from debiasctl.reading.yaml_loader import lines

    return lines(text, max_nodes=MAX_NODES, max_depth=MAX_DEPTH)


def check_shape(value: Any) -> None:
    """Raise ValueError if a value is nested too deeply, or one of its objects gives a key twice; names the place."""
    waiting: list[tuple[Any, int, tuple[str, ...]]] = [(value, 1, ())]
    while waiting:
        current, depth, place = waiting.pop()
        if isinstance(current, _Doubled):
            raise ValueError(f"the key {quoted(current.key)} is given twice{_in(place)}. Give it once")
        inner: Iterator[tuple[Any, Any]]
        if isinstance(current, Mapping):
            inner = iter(current.items())
        elif isinstance(current, list | tuple):
            inner = iter(enumerate(current))
        else:
            continue
        if depth > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        waiting += [(one, depth + 1, (*place, str(key))) for key, one in inner if isinstance(one, dict | list)]


def _in(place: tuple[str, ...]) -> str:
    return f" in {quoted('.'.join(place), mark='')}" if place else ""


class _Doubled(dict[str, Any]):
    """An object that gives `key` twice: its place is known only when the whole document is."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    seen: set[str] = set()
    doubled = _Doubled(found)
    doubled.key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return doubled


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {quoted(text, mark='')} is beyond the range of numbers")
    return value


def _integer(text: str) -> int:
    if len(text) > 400:  # no number that is read has so many digits; Python refuses 4,300 with advice for programmers
        raise ValueError(f"the number {quoted(text, mark='', limit=24)} has {len(text):,} digits")
    return int(text)
