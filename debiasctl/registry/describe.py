"""The fields of a pydantic model as people read them: the options of plugins and the settings of a spec."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from debiasctl.boundary import ContractError


@dataclass(frozen=True)
class FieldDescription:
    """One field: `type` with its bounds, and `default` as JSON holds it, None where the field is required."""

    name: str
    type: str
    required: bool
    default: Any
    description: str

    @property
    def default_text(self) -> str:
        """The default as JSON writes it, or that there is none."""
        return "required" if self.required else json.dumps(self.default, ensure_ascii=False)


def describe_fields(model: type[BaseModel]) -> list[FieldDescription]:
    """Every field of a model, in its order."""
    schema = model.model_json_schema()
    required = schema.get("required", [])
    return [
        FieldDescription(
            name,
            _type(details, schema.get("$defs", {})),
            name in required,
            _default(model, name),
            details.get("description", ""),
        )
        for name, details in schema.get("properties", {}).items()
    ]


def _default(model: type[BaseModel], name: str) -> Any:
    field = model.model_fields[name]
    if field.is_required():
        return None
    value = field.get_default(call_default_factory=True, validated_data={})
    plain = to_jsonable_python(value)
    try:
        json.dumps(plain, allow_nan=False)
    except ValueError as error:
        raise ContractError(f"have a default that JSON cannot hold: {name}={value!r:.40}") from error
    return plain


def _type(details: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON schema's type in a few words, with its bounds."""
    if "$ref" in details:
        referred = definitions[details["$ref"].rpartition("/")[2]]
        return _type(referred, definitions) if "enum" in referred else str(referred["title"])
    if "anyOf" in details:
        return " or ".join(_type(choice, definitions) for choice in details["anyOf"])
    if "enum" in details or "const" in details:
        return "|".join(map(str, details.get("enum", [details.get("const")])))
    if details.get("type") == "array":
        inner = details.get("items") or (details.get("prefixItems") or [{}])[0]
        return f"list of {_type(inner, definitions)}"
    if {"minimum", "maximum"} <= details.keys():
        return f"{details['type']} from {_bound(details['minimum'])} to {_bound(details['maximum'])}"
    marks = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = " ".join(f"{mark} {_bound(details[key])}" for key, mark in marks.items() if key in details)
    return f"{details.get('type', 'any')} {bounds}".strip()


def _bound(number: float) -> str:
    return str(number).removesuffix(".0")  # pydantic before 2.11 writes a whole bound of a number with its ".0"
