"""One wording for everything that pydantic finds wrong, wherever it was given."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known name, or nothing."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def damage(error: Exception) -> str:
    """What is wrong with a file that we wrote, in one line: the first problem of a model, or the error itself."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    problem = error.errors(include_url=False)[0]
    message = problem["msg"].removeprefix("Value error, ")
    where = ".".join(map(str, problem["loc"]))
    return f"{where}: {message}" if where else message


def describe_errors(error: "ValidationError", model: "type[BaseModel]") -> str:
    """All of a validation error's problems in one line each, naming the field and what is allowed."""
    problems = error.errors(include_url=False)
    within = {problem["loc"][:-1] for problem in problems}
    # a list that lost its wrong items may then be too short, which is no problem of its own
    shown = [problem for problem in problems if problem["type"] != "too_short" or problem["loc"] not in within]
    return "; ".join(_describe(problem, model) for problem in shown)


def _describe(problem: Any, model: "type[BaseModel]") -> str:
    location = [str(part) for part in problem["loc"]]
    where = ".".join(location)
    if problem["type"] == "extra_forbidden":
        at = _model_at(model, location[:-1])
        known = list(at.model_fields) if at else []
        allowed = f" Known: {', '.join(known)}." if known else " It takes no options." if at else ""
        return f"unknown option '{where}'.{did_you_mean(location[-1], known)}{allowed}"
    if problem["type"] == "missing":
        return f"option '{where}' is required"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = problem.get("input")
    # text and number read alike, so that a setting's message does not depend on where it was given
    value = given if isinstance(given, str) and given.strip() else repr(given)
    shown = f" (given: {value})" if where and not isinstance(given, dict) else ""
    return f"{where}: {message}{shown}" if where else message


def _model_at(model: "type[BaseModel]", location: Sequence[str]) -> "type[BaseModel] | None":
    """The model that stands at `location`, or None where there is no model."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            return None
        if not part.isdigit():  # an index into a list stays at the list's model
            field = current.model_fields.get(part)
            current = _model_in(field.annotation) if field else None
    return current


def _model_in(annotation: Any) -> "type[BaseModel] | None":
    """The model in an annotation such as `Model | None` or `tuple[Model, ...]`."""
    from pydantic import BaseModel

    parts = get_args(annotation)
    if parts:
        return next(filter(None, map(_model_in, parts)), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
