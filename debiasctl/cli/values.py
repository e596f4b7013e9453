"""What is said of a refused value of an option: one that is no number, and several that were not joined by commas."""

import re
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from debiasctl.errors import RunNameError

_EXTRA = re.compile(r"unexpected extra arguments? \((.*)\)$|unexpected extra argument\(s\) \((.*)\)$")
_NUMBERS = re.compile(r"[\d.]+(,[\d.]+)*")
_FIRST = re.compile(r"(\d+)\s*[x×*,;].*")  # of a size, or of several numbers


def number_wanted(parameter: Any, message: str, value: str | None) -> str | None:
    """What an option takes, for a message that its value is no number; None for any other message."""
    is_whole = "valid integer" in message
    if not is_whole and not re.search("valid (number|float)", message):
        return None
    unit = str(getattr(parameter, "metavar", None) or "").lower()
    named = f" of {unit}" if unit.isalpha() and unit.endswith("s") else ""
    found = _FIRST.fullmatch(value or "")
    example = f", for example {found[1]}" if found else ", for example 16" if unit == "pixels" else ""
    return f"give one {'whole ' if is_whole else ''}number{named}{example}"


def joined(error: BaseException, parameters: Sequence[Any], words: Sequence[str]) -> str | None:
    """The option of these words whose values should stand in one list, where the error is of what follows the first."""
    message = str(getattr(error, "message", error))
    found = _EXTRA.search(message)
    if found:
        refused = (found[1] or found[2]).split()
    elif isinstance(error, RunNameError):
        refused = re.findall("'([^']*)'", message)[:1]
    else:
        return None
    for name, values in _lists(parameters, words):
        if set(values[1:]) & set(refused):
            first_is_number = _NUMBERS.fullmatch(values[0])
            listed = [value for value in values if not first_is_number or _NUMBERS.fullmatch(value)]
            if len(listed) > 1:
                return f"Several are separated by commas: {name} {','.join(value.strip(',') for value in listed)}"
    return None


def _lists(parameters: Sequence[Any], words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each option that takes a list, and the words from its value to the next option."""
    names = {name for one in parameters if is_list(one) for name in one.opts}
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in names:
            following = takewhile(lambda one: not one.startswith("-"), words[place + 1 :])
            yield name, [*([value] if equals else []), *following]


def is_list(parameter: Any) -> bool:
    """Whether an option takes values that are separated by commas, as its help or its metavar says."""
    if getattr(parameter, "param_type_name", "") != "option":
        return False
    said = " ".join((getattr(parameter, "help", None) or "").split())
    return "separated by commas" in said or (parameter.metavar or "").endswith(",...")
