"""Plugins that break one law each: KIND -> beginning of the law -> the plugin."""

from typing import Any

from debiasctl import registry
from debiasctl.testing.kinds import laws_of
from debiasctl.testing.laws import Subject, check_law, resolved
from debiasctl.testing.results import Result

BROKEN: dict[str, dict[str, Any]] = {}


def breaks(kind: str, *laws: str) -> Any:
    """Let a class be one that breaks a law, or several, of its kind; a law is named by its beginning."""

    def add(plugin: Any) -> Any:
        for law in laws:
            assert law not in BROKEN.setdefault(kind, {}), law
            BROKEN[kind][law] = plugin
        return plugin

    return add


def result_of(kind: str, law: str, plugin: Any, **more: Any) -> Result | None:
    """What comes of checking one law of its kind."""
    laws = laws_of(kind)
    (found,) = [one for one in laws if one.text.startswith(law)]
    with registry.lent(kind, plugin) as record:
        choice = resolved(record, {})
        subject = Subject(record, choice.plugin, choice.options, more)
        return check_law(found, subject, may_lack=laws.may_lack)
