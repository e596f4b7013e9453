"""What holds of plugins of every kind: their class and its options."""

import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import ValidationError

from debiasctl import registry
from debiasctl.errors import DebiasctlError
from debiasctl.reading.documents import parse_json
from debiasctl.registry import PluginRecord
from debiasctl.registry.refs import PluginRef, parse_ref
from debiasctl.testing.laws import Broken, Laws, Subject, Unchecked, check_law, resolved, same
from debiasctl.testing.results import Result

_LONGEST = 120  # characters of a docstring's first line, which listings show
MADE = "It is a class of its kind, and is made from its options"
LEAVES = "It leaves torch's global settings as they were"

laws = Laws()


@laws.law("Its docstring's first line says what it is")
def _first_line(subject: Subject) -> None:
    first = (inspect.getdoc(subject.plugin) or "").partition("\n")[0].strip()
    name = subject.plugin.__name__
    if first.startswith(f"{name}("):
        raise Broken(f"the docstring is the one that Python makes: {first[:60]!r}. Write one")
    if len(first) > _LONGEST:
        raise Broken(f"the first line has {len(first)} characters; listings show one line, so use at most {_LONGEST}")


@laws.law("Every option is described")
def _described(subject: Subject) -> None:
    fields = subject.plugin.Options.model_fields
    bare = [name for name, one in fields.items() if not (one.description or "").strip()]
    if bare:
        raise Broken(f'no description: {", ".join(bare)}. Write Field(..., description="...")')


@laws.law("Its options are frozen, and unknown ones are refused")
def _frozen(subject: Subject) -> None:
    options = subject.options
    for name in type(options).model_fields:
        try:
            setattr(options, name, getattr(options, name))
        except (ValidationError, AttributeError, TypeError):
            continue
        raise Broken(f"{name} can be set after the options are made: keep the base's model_config (frozen=True)")
    try:
        type(options).model_validate({**options.model_dump(), "no_such_option": 1}, context=registry.resolve)
    except ValidationError:
        return
    raise Broken("an unknown option is taken: keep the base's model_config (extra='forbid')")


@laws.law("JSON holds its options, which come back the same")
def _stored(subject: Subject) -> None:
    choice = registry.ResolvedPlugin(subject.record, subject.plugin, subject.options)
    stored = parse_json(json.dumps(choice.stored_options(), allow_nan=False))
    for given, how in ((stored, "as a spec stores them"), (_as_text(subject.record.name, stored), "as a reference")):
        try:
            back = registry.resolve(subject.record.kind, PluginRef(subject.record.name, given))
        except DebiasctlError as error:
            raise Broken(f"{how}, they are refused: {str(error).partition(chr(10))[0]}") from error
        if not same(back.stored_options(), stored):
            raise Broken(f"{how}, {stored} become {back.stored_options()}")


@laws.law("Making one does not change the options, and another can be made from them")
def _options_kept(subject: Subject) -> None:
    before = subject.options.model_dump(mode="json")
    first, second = subject.make(), subject.make()
    if first is second:
        raise Broken("the same object is made twice: each run has one of its own")
    if subject.options.model_dump(mode="json") != before:
        raise Broken(f"they were {before}, and are {subject.options.model_dump(mode='json')}")


def examine(record: PluginRecord, options: Mapping[str, Any], kind_laws: Laws, **more: Any) -> Iterator[Result]:
    """Check the laws of every plugin, and those of its kind, one after another."""
    try:
        found = resolved(record, options)
        subject = Subject(record, found.plugin, found.options, more)
        subject.make()
    except Unchecked as reason:
        yield Result(MADE, "not checked", str(reason))
        return
    except (Broken, DebiasctlError) as error:
        yield Result(MADE, "failed", str(error))
        return
    yield Result(MADE, "passed")
    with _settings_kept() as changed:
        for law in (*laws, *kind_laws):
            result = check_law(law, subject, may_lack=law in kind_laws and kind_laws.may_lack)
            if result is not None:
                yield result
    yield Result(LEAVES, "failed", "; ".join(changed)) if changed else Result(LEAVES, "passed")


@contextmanager
def _settings_kept() -> Iterator[list[str]]:
    """Restore torch's settings after the block; the list then names those that had changed."""
    before, changed = _settings(), list[str]()
    try:
        yield changed
    finally:
        for name, value in _settings().items():
            if value != before[name]:
                changed.append(f"{name} was {before[name]}, and is {value}")
        torch.set_default_dtype(before["the default dtype"])
        torch.set_grad_enabled(before["gradients"])
        torch.use_deterministic_algorithms(before["deterministic algorithms"])


def _settings() -> dict[str, Any]:
    return {
        "the default dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _as_text(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they are when they are written in a reference and read again."""
    return dict(parse_ref(str(PluginRef(name, options))).options)
