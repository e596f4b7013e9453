"""A plugin as a spec stores it: its name, every option of it, and the distribution that it came from."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict

from debiasctl import registry
from debiasctl.api.nested import StoredPlugin, with_loose_options
from debiasctl.errors import PluginError, UsageError
from debiasctl.registry.refs import PluginRef, parse_ref


class PluginChoice(StoredPlugin):
    """A plugin, every option of it, and the distribution that it came from."""

    model_config = ConfigDict(title="plugin")

    @property
    def ref(self) -> PluginRef:
        """The reference that names it with all its options."""
        return PluginRef(self.name, self.options, (self.distribution, self.version))

    def create(self, kind: str) -> Any:
        """The plugin itself.

        Raises:
            UnknownPluginError: if it is not installed; the message names the distribution that it came from.
        """
        return registry.create(kind, self.ref)


def complete(kind: str, ref: PluginRef) -> PluginChoice:
    """The choice of the plugin that a reference names, with every option resolved, and its origin.

    Raises:
        UsageError: if there is no such plugin, or its options do not fit it.
    """
    resolved = registry.resolve(kind, ref)
    stored = resolved.stored_options()
    try:
        registry.resolve(kind, PluginRef(ref.name, stored))
    except UsageError as error:
        raise PluginError(
            f"{resolved.record.origin}: its Options have defaults that it refuses itself, so that no run could be "
            f"resumed: {error}"
        ) from error
    return PluginChoice(
        name=ref.name,
        options=stored,
        distribution=resolved.record.distribution,
        version=resolved.record.version,
    )


def _plugin_parts(value: Any) -> Any:
    """`name:key=value` as the parts that a spec stores; anything else is validated by pydantic."""
    try:
        if isinstance(value, str):
            ref = parse_ref(value)
            return {"name": ref.name, "options": dict(ref.options)}
        return with_loose_options(value) if isinstance(value, Mapping) else value
    except UsageError as error:
        raise ValueError(str(error)) from error


def with_nested(choice: PluginChoice) -> list[PluginChoice]:
    """A choice and the ones that its options name, at any depth, as its spec stores them."""
    found = [choice]
    for value in choice.options.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, dict) and {"name", "options", "distribution"} <= set(item):
                found += with_nested(PluginChoice.model_validate(item))
    return found


Plugin = Annotated[PluginChoice, BeforeValidator(_plugin_parts)]
