"""Finds, loads and makes plugins. Listing reads metadata and imports nothing; only what is asked for is imported."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.boundary import ContractError, plugin_call, summary
from debiasctl.errors import (
    DebiasctlError,
    PluginConflictError,
    PluginError,
    PluginLoadError,
    PluginOptionsError,
    PluginVersionError,
    UnknownPluginError,
)
from debiasctl.registry.guard import guarded
from debiasctl.registry.kinds import KINDS, OWN_COMMANDS, base_of
from debiasctl.registry.messages import describe_errors
from debiasctl.registry.metadata import PluginRecord, lent_object, records
from debiasctl.registry.refs import PluginRef, parse_ref
from debiasctl.registry.versions import advice, misfit
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.api import Plugin, PluginOptions


@dataclass(frozen=True)
class ResolvedPlugin:
    """A loaded plugin class with every option filled in."""

    record: PluginRecord
    plugin: "type[Plugin]"
    options: "PluginOptions"

    def __reduce__(self) -> tuple[Any, ...]:  # another process makes the class, which has no name, from the plugin's
        return _loaded, (self.record, self.options)

    def create(self) -> Any:
        """The plugin itself, made from its options.

        Raises:
            PluginError: if that fails, or makes something else.
        """
        with plugin_call(self.record.origin, "__init__"):
            made = self.plugin(self.options)
            if not isinstance(made, self.plugin):
                raise ContractError(f"made {made!r:.40} in place of a {self.plugin.__name__}")
            if getattr(made, "options", None) is None:
                raise ContractError("keeps no options. Begin it with super().__init__(options)")
        return made

    def stored_options(self) -> dict[str, Any]:
        """Every option as JSON holds it, which resolves to the same options again.

        Raises:
            PluginError: if JSON cannot hold one, or the plugin would refuse its own default.
        """
        with plugin_call(self.record.origin, "Options"):
            stored: dict[str, Any] = self.options.model_dump(mode="json")
            try:
                json.dumps(stored, allow_nan=False)
            except ValueError as error:
                raise ContractError(f"hold a value that JSON cannot hold ({error}): {_where(stored)}") from error
        return stored


def find(kind: str, name: str) -> PluginRecord:
    """The one plugin of that kind and name.

    Raises:
        UnknownPluginError: if none is installed; the message names the nearest one.
        PluginConflictError: if two distributions claim the name, or debiasctl has a command of that name.
    """
    known = records(kind)
    matches = [record for record in known if record.name == name]
    singular = KINDS[kind].singular
    if not matches:
        names = sorted({record.name for record in known})
        raise UnknownPluginError(
            f"unknown {singular} {quoted(name)}.{did_you_mean(name, names)} Known: {', '.join(names) or 'none'}\n"
            f"See: debiasctl plugins list {kind}"
        )
    if len(matches) > 1:
        claims = " and ".join(f"{match.distribution} {match.version}" for match in matches)
        raise PluginConflictError(
            f"{singular} '{name}' is claimed by two distributions: {claims}. Uninstall one of them, "
            f"for example: pip uninstall {[m.distribution for m in matches if m.distribution != 'debiasctl'][-1]}"
        )
    if kind == "commands" and name in OWN_COMMANDS:
        raise PluginConflictError(
            f"command '{name}' is claimed by debiasctl itself, and by {matches[0].distribution} {matches[0].version}, "
            f"whose command cannot be used under this name. Uninstall it: pip uninstall {matches[0].distribution}"
        )
    return matches[0]


def load_object(record: PluginRecord) -> Any:
    """Import what an entry point names.

    Raises:
        PluginVersionError: if its distribution needs another version of debiasctl; nothing is imported then.
        PluginLoadError: if the import fails; the message names plugin, distribution and cause.
    """
    from importlib.metadata import EntryPoint

    given = lent_object(record)
    if given is not None:
        return given
    needed = misfit(record.requires)
    if needed is not None:
        raise PluginVersionError(
            f"{record.origin} cannot be used: {advice(record.distribution, record.version, needed)}"
        )
    try:
        with plugin_call(record.origin, "import"):
            return EntryPoint(record.name, record.target, f"debiasctl.{record.kind}").load()
    except DebiasctlError as error:
        cause = error.__cause__ if isinstance(error, PluginError) and error.__cause__ else error
        raise PluginLoadError(
            f"{record.origin} cannot be imported ({summary(cause)}). Other plugins are not affected; "
            f"repair it or remove it: pip uninstall {record.distribution}"
        ) from cause


def load(kind: str, name: str) -> "type[Plugin]":
    """Import the plugin class of that kind and name, and check that it keeps its kind's contract.

    Raises:
        UnknownPluginError, PluginConflictError: if `find` raises it.
        PluginError: if it breaks while it is looked at.
        PluginVersionError: if its distribution needs another version of debiasctl.
        PluginLoadError: if it cannot be imported, does not derive from its kind's base, lacks a docstring or a method,
            or its `Options` do not derive from the base's.
    """
    record, base = find(kind, name), base_of(kind)
    plugin = load_object(record)
    with plugin_call(record.origin, "class"):
        _check_class(plugin, base, f"{record.origin}: {record.target}")
        checked: type[Plugin] = guarded(plugin, base, record.origin)
    return checked


def _loaded(record: PluginRecord, options: "PluginOptions") -> ResolvedPlugin:
    return ResolvedPlugin(record, load(record.kind, record.name), options)


def _check_class(plugin: Any, base: "type[Plugin]", where: str) -> None:
    if not isinstance(plugin, type):
        raise PluginLoadError(f"{where} is not a class. {_how_it_begins(base, 'MyPlugin')}")
    if not issubclass(plugin, base):
        raise PluginLoadError(f"{where} is not a {base.__name__}. {_how_it_begins(base, plugin.__name__)}")
    if not (plugin.__doc__ or "").strip():
        begins = f'  class {plugin.__name__}({base.__name__}):\n      """What it is, and the paper."""'
        raise PluginLoadError(f"{where} has no docstring. Its first line says what it is:\n{begins}")
    missing = sorted(plugin.__abstractmethods__)
    if missing:
        lines = "\n".join(f"  {_how_it_is_written(base, name)}" for name in missing)
        raise PluginLoadError(
            f"{where} lacks {', '.join(missing)}. It should have:\n{lines}\nSee: debiasctl.api.{base.__name__}"
        )
    if not (isinstance(plugin.Options, type) and issubclass(plugin.Options, base.Options)):
        raise PluginLoadError(f"{where} needs its Options to begin: class Options({base.Options.__name__}):")


def _how_it_begins(base: "type[Plugin]", name: str) -> str:
    return f"It should begin:\n  from debiasctl.api import {base.__name__}\n\n  class {name}({base.__name__}):"


def _how_it_is_written(base: "type[Plugin]", name: str) -> str:
    """The line that an abstract member begins with: a method's `def`, or a property as a plain class attribute."""
    import inspect
    from typing import get_args

    member = inspect.getattr_static(base, name)
    if isinstance(member, property) and member.fget is not None:
        first, *others = (f'"{choice}"' for choice in get_args(inspect.signature(member.fget).return_annotation))
        return f"{name} = {first}  # or {' or '.join(others)}"
    parameters = inspect.signature(member).parameters.values()
    plain = inspect.Signature([one.replace(annotation=inspect.Parameter.empty) for one in parameters])
    return f"def {name}{plain}:"


def as_ref(value: "str | PluginRef | dict[str, Any]") -> PluginRef:
    """A reference from its text, or from `{"name": ..., "options": {...}}`."""
    if isinstance(value, PluginRef):
        return value
    if isinstance(value, str):
        return parse_ref(value)
    origin = (value.get("distribution"), value.get("version"))
    return PluginRef(value["name"], value.get("options") or {}, origin)


def resolve(kind: str, value: "str | PluginRef | dict[str, Any]") -> ResolvedPlugin:
    """Load the plugin that a reference names and validate its options.

    Raises:
        UnknownPluginError: if there is none; of a stored reference the message names the distribution to install.
        PluginOptionsError: if an option is unknown, missing or out of range.
    """
    from pydantic import ValidationError

    ref = as_ref(value)
    try:
        plugin, record = load(kind, ref.name), find(kind, ref.name)
    except UnknownPluginError as error:
        distribution, version = ref.origin or (None, None)
        if distribution in (None, "debiasctl"):
            raise
        raise UnknownPluginError(
            f"{KINDS[kind].singular} '{ref.name}' of {distribution} {version} is not installed here. Install it, for "
            f"example: pip install {distribution}=={version}"
        ) from error
    model = plugin.Options
    with plugin_call(record.origin, "Options"):
        try:
            options = model.model_validate(
                dict(ref.options), context=resolve
            )  # who finds the plugins that options name
        except ValidationError as error:
            raise PluginOptionsError(
                f"{KINDS[kind].singular} '{ref.name}': {describe_errors(error, model)}\n"
                f"See: debiasctl plugins describe {kind} {ref.name}"
            ) from error
    return ResolvedPlugin(record, plugin, options)


def create(kind: str, value: "str | PluginRef | dict[str, Any]") -> Any:
    """The plugin that a reference names, made from its validated options."""
    return resolve(kind, value).create()


def _where(stored: dict[str, Any]) -> str:
    """The first option that is no JSON value."""
    for name, value in stored.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError:
            return f"{name}={value!r:.40}"
    return ""
