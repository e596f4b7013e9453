"""The language of filters, `field=value and field<value`, read into conditions; the fields are not known here."""

import re
from dataclasses import dataclass

from debiasctl.errors import UsageError
from debiasctl.wording import quoted

OPERATORS = ("=", "!=", "<=", ">=", "<", ">")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_+-]+)*")
_OPERATOR = re.compile(r"<=|>=|!=|==|=|<|>")
_OTHERS = {"or", "not", "in", "like", "xor"}
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_LONGEST = 10_000  # characters


@dataclass(frozen=True)
class Condition:
    """One comparison: a field as it was written, one of OPERATORS, and the value's text.

    `literal` says that the whole value stood in quotes, so that it is taken letter by letter.
    """

    field: str
    operator: str
    value: str
    literal: bool = False

    def __str__(self) -> str:
        return f"{self.field}{self.operator}{self.value}"


def parse_conditions(text: str) -> list[Condition]:
    """Read conditions joined by `and`; quotes and brackets protect the spaces in a value.

    Raises:
        UsageError: if the text is not such a list; the message says at which place.
    """
    if len(text) > _LONGEST:
        raise UsageError(f"`where` has {len(text):,} characters, and at most {_LONGEST:,} are read")
    found: list[Condition] = []
    position = _spaces(text, 0)
    while True:
        condition, position = _condition(text, position)
        found.append(condition)
        position = _spaces(text, position)
        if position == len(text):
            return found
        word = re.compile(r"\S+").match(text, position)
        if word is None or word[0].lower() not in ("and", "&&"):
            hint = " Conditions are joined by 'and' alone" if word and word[0].lower() in {*_OTHERS, "||"} else ""
            raise _bad(text, position, "'and' is expected here." + (hint and f"{hint}."))
        position = _spaces(text, word.end())


def _condition(text: str, position: int) -> tuple[Condition, int]:
    field = _FIELD.match(text, position)
    if field is None or field[0].lower() in {*_OTHERS, "and"}:
        what = "a field is expected here"
        if field is not None and field[0].lower() in _OTHERS:
            what = f"there is no {quoted(field[0])}: conditions are joined by 'and' alone"
        raise _bad(text, position, f"{what}.")
    after = _spaces(text, field.end())
    operator = _OPERATOR.match(text, after)
    if operator is None:
        raise _bad(text, after, f"one of {' '.join(OPERATORS)} is expected after {quoted(field[0])}.")
    start = _spaces(text, operator.end())
    end = _value_end(text, start)
    value = text[start:end]
    if not value:
        raise _bad(text, start, f"a value is expected after {quoted(field[0] + operator[0])}.")
    sign = "=" if operator[0] == "==" else operator[0]
    literal = value[0] in "'\"" and _quote_end(text, start) == end
    if literal:
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    return Condition(field[0], sign, value, literal), end


def _value_end(text: str, start: int) -> int:
    """The end of the value at `start`: the first space that no quote or bracket protects."""
    position, open_brackets = start, [""]
    while position < len(text) and (len(open_brackets) > 1 or not text[position].isspace()):
        character = text[position]
        if character in "'\"":
            position = _quote_end(text, position)
            continue
        if character in _CLOSING:
            open_brackets.append(_CLOSING[character])
        elif character == open_brackets[-1]:
            open_brackets.pop()
        elif len(open_brackets) == 1 and character in "=<>!" and position == start:
            raise _bad(text, position, f"a value is expected here; the operators are {' '.join(OPERATORS)}.")
        position += 1
    if len(open_brackets) > 1:
        raise _bad(text, start, f"a bracket is left open: {quoted(open_brackets[-1])} is missing.")
    return position


def _quote_end(text: str, start: int) -> int:
    """The place after the quotation that begins at `start`."""
    position = start + 1
    while position < len(text):
        if text[position] == "\\":
            position += 1
        elif text[position] == text[start]:
            return position + 1
        position += 1
    raise _bad(text, start, f"the quote {text[start]} is left open.")


def _spaces(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _bad(text: str, position: int, problem: str) -> UsageError:
    rest = text[position:]
    place = f"at {quoted(rest, limit=40)} (character {position + 1})" if rest.strip() else "at its end"
    return UsageError(
        f"`where` {quoted(text)}, {place}: {problem} "
        "Write for example: weighting=debiased and lr<0.001 and state!=failed"
    )
