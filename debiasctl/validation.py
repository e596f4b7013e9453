"""One wording for everything that pydantic finds wrong, wherever it was given."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known name, or nothing."""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def describe_errors(error: "ValidationError", model: "type[BaseModel]") -> str:
    """All of a validation error's problems in one line each, naming the field and what is allowed."""
    return "; ".join(_describe(problem, model) for problem in error.errors(include_url=False))


def _describe(problem: Any, model: "type[BaseModel]") -> str:
    location = [str(part) for part in problem["loc"]]
    where = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _fields(model, location[:-1])
        allowed = f" Known: {', '.join(known)}." if known else " It takes no options."
        return f"unknown option '{where}'.{did_you_mean(location[-1], known)}{allowed}"
    if problem["type"] == "missing":
        return f"option '{where}' is required"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = problem.get("input")
    shown = f" (given: {given!r})" if where and not isinstance(given, dict) else ""
    return f"{where}: {message}{shown}" if where else message


def _fields(model: "type[BaseModel]", location: Sequence[str]) -> list[str]:
    """The field names of the model that stands at `location`, or none where there is no model."""
    from pydantic import BaseModel

    current: Any = model
    for part in location:
        field = getattr(current, "model_fields", {}).get(part)
        current = getattr(field, "annotation", None)
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
