"""References to plugins: `name` or `name:key=value,key=value`."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from debiasctl.errors import ReferenceSyntaxError
from debiasctl.reading.documents import MAX_DEPTH, parse_json
from debiasctl.wording import quoted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[^\s,'\"\[\]{}()=]+")
_CLOSING = {"[": "]", "{": "}", "(": ")"}


@dataclass(frozen=True)
class PluginRef:
    """A plugin's name and the options given with it, as text or JSON values; pydantic coerces them later.

    `origin` is the distribution and version that a stored reference came from.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    origin: tuple[str | None, str | None] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        if not self.options:
            return self.name
        return f"{self.name}:{','.join(f'{key}={_format_value(value)}' for key, value in self.options.items())}"


def parse_ref(text: str) -> PluginRef:
    """Read `name` or `name:key=value,...`.

    Brackets and quotes protect commas; a bracketed value is read as JSON (`[1,2,2,2]`), `null` as None, and
    anything else is kept as text.

    Raises:
        ReferenceSyntaxError: if the name is bad, an `=` is missing, a key is duplicated, or a bracket or quote is open.
    """
    name, colon, rest = text.strip().partition(":")
    if not NAME.fullmatch(name):
        raise ReferenceSyntaxError(
            f"{quoted(text)} is not a plugin reference: the name must be letters, digits, '.', '_', '+' or '-'. "
            "Write name or name:key=value,key=value"
        )
    if colon and not rest.strip():
        raise ReferenceSyntaxError(
            f"{quoted(text)} ends in ':' with no options. Write {quoted(name)} or {quoted(name + ':key=value')}"
        )
    options: dict[str, Any] = {}
    for item in split_list(rest, text) if colon else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ReferenceSyntaxError(
                f"{quoted(text)}: {quoted(item.strip())} has no '='. Options are written key=value, separated by "
                "commas; protect a comma inside a value with quotes or brackets"
            )
        if not _KEY.fullmatch(key):
            raise ReferenceSyntaxError(
                f"{quoted(text)}: {quoted(key)} is not an option name. Options are written key=value"
            )
        if key in options:
            raise ReferenceSyntaxError(f"{quoted(text)}: option {quoted(key)} is given twice. Give it once")
        options[key] = parse_value(value, text)
    return PluginRef(name, options)


def parse_value(value: str, text: str) -> Any:
    """Read one option value: quoted text, a bracketed JSON value, `null`, or plain text. `text` is for messages."""
    if value == "":
        raise ReferenceSyntaxError(f"{quoted(text)}: an option has no value. Write key=value (key='' for empty text)")
    if value[0] in "'\"":
        if len(value) < 2 or value[-1] != value[0]:
            raise ReferenceSyntaxError(f"{quoted(text)}: the quotes around {quoted(value, mark='')} do not match")
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    if value[0] in "[{":
        return _bracketed(value, text)
    return None if value == "null" else value


def _bracketed(value: str, text: str) -> Any:
    """JSON, or a list of values in brackets that are no JSON, such as references."""
    shown = quoted(value, mark="")
    if _depth(value) > MAX_DEPTH:
        raise ReferenceSyntaxError(f"{quoted(text)}: {shown} is nested more than {MAX_DEPTH} levels deep")
    try:
        return parse_json(value)
    except json.JSONDecodeError as error:
        if value[0] == "[" and value[-1] == "]":
            return [parse_value(item.strip(), text) for item in split_list(value[1:-1], text)]
        raise ReferenceSyntaxError(f"{quoted(text)}: {shown} cannot be read as a list or mapping ({error})") from error
    except ValueError as error:  # it is JSON, but of no value that an option may have
        raise ReferenceSyntaxError(f"{quoted(text)}: {shown} cannot be read: {error}") from error


def _depth(text: str) -> int:
    """The most brackets that are open at once, those in quotes included."""
    depth = deepest = 0
    for character in text:
        depth += (character in "[{(") - (character in "]})")
        deepest = max(deepest, depth)
    return deepest


def split_list(text: str, whole: str) -> list[str]:
    """Split at the commas that no bracket or quote protects."""
    items, depth, quote, start = [], [], "", 0
    position = 0
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character in _CLOSING:
            depth.append(_CLOSING[character])
        elif depth and character == depth[-1]:
            depth.pop()
        elif character in "]})":
            raise ReferenceSyntaxError(f"{quoted(whole)}: '{character}' closes nothing")
        elif character == "," and not depth:
            items.append(text[start:position])
            start = position + 1
        position += 1
    if quote or depth:
        raise ReferenceSyntaxError(f"{quoted(whole)}: a {'quote' if quote else 'bracket'} is left open")
    return [*items, text[start:]]


def _format_value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict) and {"name", "options"} <= set(value):  # a plugin among another's options
        return _format_value(str(PluginRef(value["name"], value["options"])))
    if isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        return f"[{','.join(map(_format_value, value))}]"
    if isinstance(value, (list, tuple, dict)):
        return json.dumps(value, separators=(",", ":"))
    if isinstance(value, str) and (value == "null" or not _PLAIN.fullmatch(value)):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)
