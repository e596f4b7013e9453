"""Messages for what pydantic refuses."""

import re
from collections.abc import Sequence
from reprlib import Repr
from typing import TYPE_CHECKING, Any, get_args

from debiasctl.wording import did_you_mean, one_line, quoted

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

_PARSED = {"int_parsing": "one whole number", "float_parsing": "one number"}  # what is to be given
# what pydantic adds to the place of a problem of a value that may be of several plain types
_CHOICE = re.compile(r"(constrained-)?(float|int|str)|literal\[.*\]")
_LONGEST = 1000  # characters of a plugin's own message about an option
_SHOWN = 10  # problems that a message names
_REPR = Repr()  # never writes out more than it shows, however much aliases of YAML make of a value
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 4, 120, 120, 120
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = 20


def damage(error: Exception) -> str:
    """Describe in one line what is wrong with a stored file: the first problem of a model, or the error itself."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return one_line(error)
    problem = error.errors(include_url=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "union_tag_not_found":
        message = f"{problem['ctx']['discriminator']} is missing"
    where = ".".join(map(str, problem["loc"]))
    return one_line(f"{where}: {message}" if where else message)


def describe_errors(error: "ValidationError", model: "type[BaseModel]") -> str:
    """All of a validation error's problems in one line each, naming the field and what is allowed."""
    shown = problems_of(error)
    more = f"; and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return "; ".join(describe_problem(problem, model) for problem in shown[:_SHOWN]) + more


def problems_of(error: "ValidationError") -> list[Any]:
    """A validation error's problems, as pydantic states them, without those that only follow from others."""
    problems = error.errors(include_url=False)
    within = {problem["loc"][:-1] for problem in problems}
    # a list that lost its wrong items may then be too short, which is no problem of its own
    kept = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in within]
    return _joined(kept)


def _joined(problems: Sequence[Any]) -> list[Any]:
    """The problems, with those of a value that may be of several types, a number or `'auto'`, say, joined to one."""
    found: dict[Any, Any] = {}
    for number, problem in enumerate(problems):
        *place, choice = problem["loc"] or ("",)
        if not place or not _CHOICE.fullmatch(str(choice)) or problem["type"] == "extra_forbidden":
            found[number] = problem
            continue
        first = found.setdefault(tuple(place), {**problem, "loc": tuple(place), "msg": ""})
        message = problem["msg"].partition(", unable")[0]
        first["msg"] += f", or {message.removeprefix('Input should be ')}" if first["msg"] else message
        if problem["type"] == "literal_error":
            first |= {"type": problem["type"], "ctx": problem["ctx"]}
    return list(found.values())


def describe_problem(problem: Any, model: "type[BaseModel]") -> str:
    """One of a validation error's problems in a line, naming the field and what is allowed."""
    path, models, chosen = _located(model, problem["loc"])
    where = ".".join(path)
    if problem["type"] == "extra_forbidden":
        known = list(dict.fromkeys(name for one in models for name in one.model_fields))
        if path[-1] in known:  # as an option of another kind
            known = [name for one in chosen for name in one.model_fields]
        allowed = f" Known: {', '.join(known)}." if known else " It takes no options." if models else ""
        return f"unknown option {quoted(where)}.{did_you_mean(path[-1], known)}{allowed}"
    if problem["type"] == "missing":
        return f"option '{where}' is required"
    if problem["type"] == "union_tag_invalid":
        about = problem["ctx"]
        allowed = " or ".join(about["expected_tags"].rsplit(", ", 1))
        name = about["discriminator"].strip("'")
        return f"{where}.{name}: input should be {allowed} (given: {quoted(about['tag'], mark='')})"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if problem["type"] in _PARSED:
        message = f"{message.partition(', unable')[0]}: give {_PARSED[problem['type']]}"
    message = message if len(message) <= _LONGEST else one_line(message, limit=_LONGEST)
    given = problem.get("input")
    # text and number read alike, so that a setting's message does not depend on where it was given
    value = given if isinstance(given, str) and given.strip() else _REPR.repr(given)
    shown = f" (given: {quoted(value, mark='')})" if where and not isinstance(given, dict) else ""
    if problem["type"] == "literal_error" and isinstance(given, str):
        meant = did_you_mean(given, re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
        shown += f".{meant}" if meant else ""
    return f"{where}: {message}{shown}" if where else message


def _located(
    model: "type[BaseModel]", location: Sequence[str | int]
) -> "tuple[list[str], list[type[BaseModel]], list[type[BaseModel]]]":
    """A location without the tags of unions, the models that may hold its last part, and those that its tag leaves."""
    path: list[str] = []
    holders = left = inner = chosen = [model]
    tag_of: str | None = None  # the field that tells the models of a union apart, where `part` is its value
    for part in map(str, location):
        if tag_of is not None:
            chosen = [one for one in inner if part in get_args(one.model_fields[tag_of].annotation)]
            tag_of = None
            continue
        path.append(part)
        holders, left = inner, chosen
        if not part.isdigit():  # an index into a list stays at the list's model
            field = next((one.model_fields[part] for one in holders if part in one.model_fields), None)
            inner = chosen = _models_in(field.annotation) if field else []
            tag_of = field.discriminator if field and isinstance(field.discriminator, str) else None
    return path, holders, left


def _models_in(annotation: Any) -> "list[type[BaseModel]]":
    """The models in an annotation such as `Model | None` or `tuple[Model, ...]`."""
    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
