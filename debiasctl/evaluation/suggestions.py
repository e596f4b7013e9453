"""Feature extractors that messages suggest and published statistics need, found among the installed plugins."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from debiasctl import registry
from debiasctl.api import Features
from debiasctl.errors import DebiasctlError
from debiasctl.evaluation.metrics.catalogue import features_class
from debiasctl.registry.refs import PluginRef


def features_where(suits: Callable[[type[Features]], bool]) -> str:
    """The installed features that suit, as a setting to copy: "`features=clip`, dinov2 or inception"."""
    names = [name for name, plugin in _installed() if suits(plugin)]
    if not names:
        return "other features"
    shown = [f"`features={names[0]}`", *names[1:]]
    return " or ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def features_by_mode(publisher: str) -> dict[str, str]:
    """The reference of the features that a publisher's statistics were made with, by the statistics' mode."""
    found: dict[str, str] = {}
    for name, plugin in _installed():
        for one in plugin.published_statistics:
            if one.publisher == publisher:
                found.setdefault(one.mode, str(PluginRef(name, _changed(plugin, one.options))))
    return found


def modes_of(plugin: Features, publisher: str) -> list[str]:
    """The modes of a publisher's statistics that were made with these features, as their options are chosen."""
    return [
        one.mode
        for one in plugin.published_statistics
        if one.publisher == publisher and all(getattr(plugin.options, key) == one.options[key] for key in one.options)
    ]


def _changed(plugin: type[Features], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not the default."""
    fields = plugin.Options.model_fields
    return {key: value for key, value in options.items() if fields[key].default != value}


def _installed() -> Iterator[tuple[str, type[Features]]]:
    """The features by name, debiasctl's own first."""
    for record in sorted(registry.records("features"), key=lambda record: record.distribution != "debiasctl"):
        try:
            yield record.name, features_class(record.name)
        except DebiasctlError:
            continue  # what cannot be loaded is not suggested; it is reported where it is asked for
