"""Reads which plugins are installed from metadata alone; what cannot be read is noted and passed over."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl.boundary import Origin, summary
from debiasctl.registry.kinds import KINDS
from debiasctl.registry.refs import NAME
from debiasctl.registry.versions import advice, misfit, requirements_in
from debiasctl.wording import did_you_mean, printable

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint, EntryPoints

_PREFIX = "debiasctl."
_TARGET = re.compile(r"[\w.]+\s*:\s*[\w.]+\s*(\[.*\]\s*)?")  # MODULE:NAME, of which importlib allows this
_OURS = re.compile(r"debiasctl([._-]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class PluginRecord:
    """One entry point, as its distribution's metadata states it."""

    kind: str
    name: str
    target: str
    distribution: str
    version: str
    requires: tuple[str, ...] = field(default=(), compare=False)  # of debiasctl, as a package's metadata state it

    @property
    def origin(self) -> Origin:
        """The plugin as messages name it."""
        return Origin(KINDS[self.kind].singular, self.name, self.distribution, self.version)


_LENT: dict[PluginRecord, Any] = {}  # what is a plugin without an entry point, while a block lasts


def records(kind: str) -> list[PluginRecord]:
    """Every installed plugin of a kind, sorted by name, read from metadata alone."""
    found = [*_scan(tuple(sys.path))[0], *_LENT]
    return sorted((record for record in found if record.kind == kind), key=lambda record: record.name)


@contextmanager
def lent(kind: str, plugin: Any) -> Iterator[PluginRecord]:
    """Let a class, or a command's app, be a plugin of this process while the block lasts, without an entry point."""
    about = plugin if isinstance(plugin, type) else type(plugin)
    name = about.__name__.strip("_") or "plugin"
    while any(record.name == name for record in records(kind)):
        name += "+"
    record = PluginRecord(kind, name, f"{about.__module__}:{about.__qualname__}", about.__module__, "(not installed)")
    _LENT[record] = plugin
    try:
        yield record
    finally:
        del _LENT[record]


def lent_object(record: PluginRecord) -> Any:
    """What `lent` lends under this record, or None."""
    return _LENT.get(record)


def metadata_notes() -> list[str]:
    """What is wrong with the metadata of installed distributions, as far as it concerns plugins, a sentence each."""
    found, notes = _scan(tuple(sys.path))
    return [*notes, *_version_notes(found)]


def tolerate_broken_metadata() -> None:
    """Let libraries that read every distribution's entry points, as pydantic and torch do, find none in broken ones.

    `metadata_notes` still says which are broken.
    """
    from importlib.metadata import Distribution, EntryPoints

    read = _read_entry_points()

    @wraps(read)
    def entry_points(self: Distribution) -> EntryPoints:
        try:
            return EntryPoints(read(self))
        except Exception:  # noqa: BLE001 - the same as below
            return EntryPoints()

    Distribution.entry_points = property(entry_points)  # type: ignore[assignment]


def _read_entry_points() -> Callable[["Distribution"], "EntryPoints"]:
    from importlib.metadata import Distribution, EntryPoints

    read = Distribution.entry_points.fget  # type: ignore[attr-defined]
    inner: Callable[[Distribution], EntryPoints] = getattr(read, "__wrapped__", read)
    return inner


@lru_cache(maxsize=16)
def _scan(_search_path: tuple[str, ...]) -> tuple[tuple[PluginRecord, ...], tuple[str, ...]]:
    found: set[PluginRecord] = set()
    notes: list[str] = []
    for distribution in _each_once():
        try:
            points = list(_read_entry_points()(distribution))
        except Exception as error:  # noqa: BLE001 - whatever lies in another package's metadata harms no plugin
            notes.append(
                f"{_folder(distribution)}: the entry points of this distribution cannot be read ({summary(error)}), so "
                "its plugins, if it has any, are not known. Reinstall it"
            )
            continue
        if not any(_OURS.match(point.group) for point in points):
            continue
        name, version = _identity(distribution)
        requires = () if name == "debiasctl" else requirements_in(distribution)
        for point in points:
            note = _note(point, f"{name} {version}")
            if note is not None:
                notes.append(note)
            elif point.group.startswith(_PREFIX):
                kind, target = point.group.removeprefix(_PREFIX), printable(point.value)
                found.add(PluginRecord(kind, point.name, target, name, version, requires))
    order = sorted(found, key=lambda record: (record.kind, record.name, record.distribution))
    return tuple(order), tuple(dict.fromkeys(notes))


def _version_notes(found: Sequence[PluginRecord]) -> list[str]:
    """A sentence for each distribution that needs another version of debiasctl."""
    stated = {(one.distribution, one.version): one.requires for one in found if one.requires}
    misfits = {of: misfit(requires) for of, requires in stated.items()}
    return [f"{advice(*of, needed)}. Its plugins cannot be used until then" for of, needed in misfits.items() if needed]


def _each_once() -> "Iterator[Distribution]":
    """The distributions on the path; of two with one name, the first, which is the one that Python imports."""
    from importlib.metadata import distributions  # it takes long to import

    seen: set[str] = set()
    for distribution in distributions():
        path = getattr(distribution, "_path", None)
        stem = str(getattr(path, "stem", "")) or _identity(distribution)[0]
        key = re.sub(r"[-_.]+", "-", stem.partition("-")[0]).lower()
        if key not in seen:
            seen.add(key)
            yield distribution


def _identity(distribution: "Distribution") -> tuple[str, str]:
    """The name and version, from the folder's name if the metadata do not state them."""
    try:
        name, version = distribution.metadata["Name"], distribution.version
    except Exception:  # noqa: BLE001 - the same as above
        name = version = ""
    stem, _, rest = _folder(distribution).partition("-")
    return printable(name or stem), printable(version or rest.removesuffix(".dist-info") or "unknown")


def _folder(distribution: "Distribution") -> str:
    path = getattr(distribution, "_path", None)
    return printable(Path(str(path)).name) if path is not None else "a distribution"


def _no_target(point: "EntryPoint", distribution: str, singular: str) -> str:
    return (
        f"{distribution}: the {singular} '{printable(point.name)}' cannot be used, because its entry point is "
        f"'{printable(point.value)}', and should be MODULE:NAME"
    )


def _note(point: "EntryPoint", distribution: str) -> str | None:
    """What is wrong with an entry point, if it is debiasctl's."""
    kind = point.group.removeprefix(_PREFIX)
    name = printable(point.name)
    if kind in KINDS and point.group.startswith(_PREFIX):
        if NAME.fullmatch(point.name):
            return None if _TARGET.fullmatch(point.value) else _no_target(point, distribution, KINDS[kind].singular)
        return (
            f"{distribution}: the {KINDS[kind].singular} '{name}' cannot be used, because its name is not one. Names "
            "are letters, digits, '.', '_', '+' and '-'"
        )
    if not _OURS.match(point.group):
        return None
    nearest = did_you_mean(point.group, [f"{_PREFIX}{one}" for one in KINDS])
    return (
        f"{distribution}: '{name}' is in the entry-point group '{printable(point.group)}', which debiasctl does not "
        f"read.{nearest} Groups: {_PREFIX}KIND with KIND one of {', '.join(KINDS)}"
    )
