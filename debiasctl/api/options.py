"""The base of every plugin's options, and the names of weighting spaces and prediction types."""

from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

Space = Literal["eps", "x0", "v", "flow"]
Prediction = Literal["eps", "x0", "v", "edm", "flow"]

LARGEST = 2**63 - 1  # what torch and files hold as an integer


class Settings(BaseModel):
    """The base of what users set: frozen, without unknown keys, and with numbers that are numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _settings_take_no_truth_for_a_number(cls, data: Any) -> Any:
        """Refuse true and false for a number, which pydantic would take for 1 and 0."""
        if isinstance(data, Mapping):
            for name, field in cls.model_fields.items():
                value = data.get(name)
                if _holds_truth(value):
                    kinds = _kinds(field.annotation)
                    if kinds & {int, float} and not kinds & {bool, Any}:
                        raise _refusal(cls, name, value, "Input should be a number, and true and false are none")
        return data

    @model_validator(mode="after")
    def _settings_fit_an_integer(self) -> Self:
        """Refuse whole numbers that nothing can count to."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            items = value if isinstance(value, tuple | list) else (value,)
            if any(type(item) is int and abs(item) > LARGEST for item in items):
                raise _refusal(type(self), name, value, f"Input should be at most {LARGEST}")
        return self


class PluginOptions(Settings):
    """The base of every plugin's `Options`, frozen and without unknown keys; describe every field with `Field`."""


def _refusal(model: type[BaseModel], name: str, value: Any, message: str) -> ValidationError:
    problem = InitErrorDetails(
        type=PydanticCustomError("number", "{message}", {"message": message}), loc=(name,), input=value
    )
    return ValidationError.from_exception_data(model.__name__, [problem])


def _holds_truth(value: Any, levels: int = 2) -> bool:
    """Whether a value is true or false, or is a list that holds one, or a list of such lists."""
    if levels and isinstance(value, list | tuple):
        return any(_holds_truth(item, levels - 1) for item in value)
    return isinstance(value, bool)


def _kinds(annotation: Any) -> set[Any]:
    """The types in an annotation such as `tuple[Annotated[int, ...], ...] | None`."""
    parts = get_args(annotation)
    return {annotation} if not parts else {kind for part in parts for kind in _kinds(part)} if _nested(parts) else set()


def _nested(parts: tuple[Any, ...]) -> bool:
    """Whether these are types, and not the values of a Literal."""
    return not all(isinstance(part, str | int) for part in parts)
