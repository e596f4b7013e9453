"""Descriptions of every setting of a run spec, for `spec describe` and the documentation."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace

from debiasctl.errors import UsageError
from debiasctl.registry.describe import FieldDescription, describe_fields
from debiasctl.specs.section import Section
from debiasctl.specs.sections import RunSpec, sections_in
from debiasctl.wording import did_you_mean, quoted


@dataclass(frozen=True)
class SectionDescription:
    """A section of a spec: its summary, and its settings under the names by which they are set."""

    name: str
    summary: str
    settings: tuple[FieldDescription, ...]


def describe_spec(name: str | None = None) -> list[SectionDescription]:
    """Describe every section in the order of the spec, with settings outside sections last; or what `name` names.

    It names a section, or a setting by its full name, which is then the only one in its section.

    Raises:
        UsageError: if there is no such section or setting.
    """
    fields = {field.name: field for field in describe_fields(RunSpec)}
    section, dot, _ = (name or "").partition(".")
    if name is not None and section not in fields:
        raise UsageError(
            f"unknown section {quoted(section)}.{did_you_mean(section, fields)} Known: {', '.join(fields)}"
        )
    found = [_describe(field) for known, field in fields.items() if name is None or known == section]
    if dot:
        found = [replace(found[0], settings=_named(str(name), found[0]))]
    return sorted(found, key=lambda one: one.settings[0].name == one.name)


def _named(name: str, section: SectionDescription) -> tuple[FieldDescription, ...]:
    """The setting of that name, which several kinds of a section may have, each with its own range."""
    known = list(dict.fromkeys(field.name for field in section.settings))
    if name not in known:
        raise UsageError(f"unknown setting {quoted(name)}.{did_you_mean(name, known)} Known: {', '.join(known)}")
    return tuple(field for field in section.settings if field.name == name)


def _describe(field: FieldDescription) -> SectionDescription:
    about = RunSpec.model_fields[field.name]
    models = sections_in(about.annotation)
    if not models:
        return SectionDescription(field.name, field.description, (field,))
    if isinstance(about.discriminator, str):
        kinds = _kinds(field.name, models, about.discriminator, default=getattr(about.default, about.discriminator))
        return SectionDescription(field.name, f"{field.description}.".capitalize(), tuple(kinds))
    summary = " ".join(inspect.cleandoc(models[0].__doc__ or "").partition("\n\n")[0].split())
    return SectionDescription(field.name, summary, tuple(_settings(field.name, models)))


def _kinds(path: str, models: list[type[Section]], switch: str, *, default: str) -> Iterator[FieldDescription]:
    """Yield the setting that chooses among the kinds of a section, followed by each kind's own settings."""
    kinds = {model.model_fields[switch].default: model for model in models}
    meanings = "; ".join(f"{kind}: {model.model_fields[switch].description}" for kind, model in kinds.items())
    yield FieldDescription(f"{path}.{switch}", "|".join(kinds), False, default, meanings)
    for kind, model in kinds.items():
        for field in _settings(path, [model]):
            if field.name != f"{path}.{switch}":
                yield replace(field, description=f"{kind}: {field.description}")


def _settings(path: str, models: list[type[Section]]) -> Iterator[FieldDescription]:
    """Yield the settings of a section under their full names, with a nested section followed by its own settings."""
    for model in models:
        for field in describe_fields(model):
            name = f"{path}.{field.name}"
            yield replace(field, name=name)
            yield from _settings(name, sections_in(model.model_fields[field.name].annotation))
