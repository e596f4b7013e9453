"""The fields that a filter over runs may name: a spec's settings, and what else is known of a run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from debiasctl.errors import UsageError
from debiasctl.runs.status import RunState
from debiasctl.wording import did_you_mean, quoted

Kind = Literal["plugin", "choice", "number", "truth", "text", "time", "value"]
Source = Literal["name", "status", "labels", "spec"]  # in the order of what reading it costs


@dataclass(frozen=True)
class Field:
    """A field: its whole name, what its values are, and where they are read; `choices` are all that it may be.

    `option_of` is the setting of a plugin whose option it is.
    """

    name: str
    kind: Kind
    source: Source = "spec"
    choices: tuple[str, ...] = ()
    option_of: str | None = None


OWN: Mapping[str, Field] = {
    field.name: field
    for field in (
        Field("name", "text", "name"),
        Field("state", "choice", "status", get_args(RunState)),
        Field("step", "number", "status"),
        Field("seed", "number", "status"),
        Field("images", "number", "spec"),  # the budget, as `train` takes it
        Field("created", "time", "status"),
        Field("updated", "time", "status"),
        Field("tag", "text", "labels"),
        Field("note", "text", "labels"),
    )
}

# other words for fields, and what a listing shows and no filter asks
_SYNONYMS = {"learning_rate": "lr", "max_steps": "steps", "resolution": "image_size", "status": "state", "run": "name"}
_MEASURED = ("best", "metric", "speed", "loss", "left", "disk")
_BESIDE_OPTIONS = ("name", "distribution", "version")  # what a spec stores of a plugin


def find_field(text: str, short: Mapping[str, str]) -> Field:
    """The field that `text` names: by itself, as in a spec, or by a `short` name of a setting, with '-' or '_'.

    Raises:
        UsageError: if there is none; the message names the nearest one.
    """
    names = {name.replace("-", "_"): setting for name, setting in short.items()}
    first, *rest = text.split(".")
    first = first.replace("-", "_")
    if not rest and first in OWN:
        return OWN[first]
    parts = [*names.get(first, first).split("."), *rest]
    known = settings()
    for end in range(len(parts), 0, -1):
        setting, inner = ".".join(parts[:end]).replace("-", "_"), ".".join(parts[end:])
        if setting in known and not inner:
            return known[setting]
        if setting in known and known[setting].kind in ("plugin", "value"):  # an option, or a mapping's key
            plugin = known[setting].kind == "plugin"
            inner = inner.removeprefix("options.") if plugin else inner
            option_of = setting if plugin and inner not in _BESIDE_OPTIONS else None
            return Field(f"{setting}.{inner}", "value", option_of=option_of)
    name = ".".join(parts)
    raise UsageError(_unknown(text, name, names))


def _unknown(text: str, name: str, short: Mapping[str, str]) -> str:
    section, dot, last = name.rpartition(".")
    known = list(settings())
    inside = [one for one in known if one.startswith(f"{section.partition('.')[0]}.")] if dot else []
    same = [one for one in known if one.rpartition(".")[2] == last.lower()]
    same = [_SYNONYMS[text.lower().replace("-", "_")]] if text.lower().replace("-", "_") in _SYNONYMS else same
    hint = f" Did you mean {' or '.join(map(quoted, same[:3]))}?" if same else ""
    if text in _MEASURED:
        hint = f" A listing shows it and is sorted by it (`sort={text}`), but no filter asks for it."
    hint = hint or did_you_mean(name if dot else text.lower(), inside or [*OWN, *short, *known])
    allowed = inside or list(dict.fromkeys([*OWN, *short]))
    more = (
        "" if inside else ", and a spec's settings by their whole names, such as optimizer.lr (debiasctl spec describe)"
    )
    return f"`where`: unknown field {quoted(text)}.{hint} Known: {', '.join(allowed)}{more}"


@cache
def settings() -> Mapping[str, Field]:
    """Every setting of a run spec by its whole name."""
    from debiasctl.specs.sections import RunSpec

    found: dict[str, Field] = {}
    for name, field in _fields(RunSpec, ""):
        before = found.get(name)
        choices = field.choices if before is None else tuple(dict.fromkeys([*before.choices, *field.choices]))
        found[name] = Field(name, field.kind, choices=choices)
    return found


def _fields(model: Any, within: str) -> Iterator[tuple[str, Field]]:
    from debiasctl.specs.sections import sections_in

    for name, about in model.model_fields.items():
        path = f"{within}{name}"
        sections = sections_in(about.annotation)
        for section in sections:
            yield from _fields(section, f"{path}.")
        if not sections:
            kind, choices = _kind(about.annotation)
            yield path, Field(path, kind, choices=choices)


def _kind(annotation: Any) -> tuple[Kind, tuple[str, ...]]:
    """What the values of an annotation such as `Annotated[float, ...] | None` are."""
    from debiasctl.registry.choices import PluginChoice

    types = set(_types(annotation)) - {type(None)}
    literals = [one for kind in types if get_origin(kind) is Literal for one in get_args(kind)]
    if types == {PluginChoice}:
        return "plugin", ()
    if literals and len(types) == 1:
        texts = tuple(one for one in literals if isinstance(one, str))
        return ("choice", texts) if texts else ("number", ())
    if types == {bool}:
        return "truth", ()
    if types and types <= {int, float}:
        return "number", ()
    return ("text", ()) if types == {str} else ("value", ())


def _types(annotation: Any) -> Iterator[Any]:
    """The types that an annotation joins; the items' type of a tuple of plugins, of which each is compared."""
    import types
    from typing import Annotated, Union

    from debiasctl.registry.choices import PluginChoice

    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _types(inner[0])
    elif origin in (Union, types.UnionType):
        for one in inner:
            yield from _types(one)
    elif origin is tuple and set(_types(inner[0])) == {PluginChoice}:
        yield PluginChoice
    else:
        yield annotation
