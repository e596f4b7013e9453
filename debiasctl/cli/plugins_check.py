"""`debiasctl plugins check`: whether what is installed keeps the laws of its kind."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_checked, complete_described, complete_distribution
from debiasctl.cli.messages import with_options
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_table, print_text
from debiasctl.errors import UsageError
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.registry import PluginRecord
    from debiasctl.testing.installed import Checked

EXAMPLES = """[bold]Examples[/bold]

debiasctl plugins check

debiasctl plugins check --distribution debiasctl-examples

debiasctl plugins check weightings min-snr:gamma=3"""
_STATES = ("passed", "failed", "not checked")


def check(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Only this kind, or only plugins of this name.", autocompletion=complete_checked, show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(
            help="Only this plugin; with options of yours after a colon.",
            autocompletion=complete_described,
            show_default=False,
        ),
    ] = None,
    distribution: Annotated[
        str | None,
        option(
            "--distribution",
            metavar="PACKAGE",
            help="Only plugins of this package.",
            autocompletion=complete_distribution,
        ),
    ] = None,
    timeout: Annotated[
        float,
        option("--timeout", min=1, max=86_400, metavar="SECONDS", help="Time after which an import or a law hangs."),
    ] = 120.0,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Check that installed plugins keep the laws of their kind, each in a process of its own.

    Nothing is downloaded, and no job is sent to another machine unless its engine is named. What cannot be checked
    here is listed with the reason. Exit code 1 if a plugin breaks a law.
    """
    from debiasctl import paths, registry
    from debiasctl.api import DataLocation
    from debiasctl.cli.progress import counting_progress
    from debiasctl.testing.installed import check_installed

    records, given = _chosen(kind, name, distribution)
    notes = registry.metadata_notes() if kind is distribution is None else []
    more = {"elsewhere": name is not None, "location": DataLocation(paths.data_dir(), paths.cache_dir())}
    found = []
    with counting_progress("checking plugins") as show:
        for number, record in enumerate(records):
            show(number, len(records))
            found.append(check_installed(record, given, seconds=timeout, **more))
    if as_json:
        print_json({"plugins": [_as_json(one) for one in found], "notes": notes})
    else:
        _print(found)
    for text in notes:
        note(text)
    if notes or any(one.count("failed") for one in found):
        raise typer.Exit(1)


def _chosen(
    kind: str | None, name: str | None, distribution: str | None
) -> "tuple[Sequence[PluginRecord], Mapping[str, Any]]":
    """The plugins that are asked for, and the options that are given with the name.

    Raises:
        UsageError: if there is no such kind, plugin or package, or options are given to a command.
    """
    from debiasctl import registry

    every = [record for one in registry.KINDS for record in registry.records(one)]
    if distribution is not None:
        known = sorted({record.distribution for record in every})
        every = [record for record in every if record.distribution == distribution]
        if not every:
            nearest = did_you_mean(distribution, known)
            raise UsageError(f"no package {quoted(distribution)} offers plugins.{nearest} Known: {', '.join(known)}")
    if kind is None:
        return every, {}
    kinds: Sequence[str] = list(registry.KINDS)
    try:
        kinds = [registry.kind_named(kind)]
    except UsageError as error:
        if name is not None:
            raise
        names, named = {record.name for record in every}, registry.as_ref(kind).name
        if named not in names:
            nearest = did_you_mean(named, sorted(names))
            raise UsageError(f"{error}. No plugin is called {quoted(named)} either.{nearest}") from error
        name = kind
    reference = None if name is None else registry.as_ref(name)
    of_kind = [record for record in every if record.kind in kinds]
    if reference is None:
        return of_kind, {}
    found = [record for record in of_kind if record.name == reference.name]
    if not found:
        registry.find(kinds[0], reference.name)  # raises, and names the nearest
        raise UsageError(f"'{reference.name}' is a plugin, and none of {distribution}. Leave one of the two out")
    if reference.options and any(record.kind == "commands" for record in found):
        raise UsageError(f"'{reference}': a command has no options here. Give its name: {reference.name}")
    return found, reference.options


def _as_json(one: "Checked") -> dict[str, Any]:
    record = one.record
    about = {field: getattr(record, field) for field in ("kind", "name", "distribution", "version")}
    laws = [{"law": result.law, "state": result.state, "detail": result.detail or None} for result in one.results]
    return {**about, **{state.replace(" ", "_"): one.count(state) for state in _STATES}, "laws": laws}


def _print(found: "Sequence[Checked]") -> None:
    rows = []
    for one in found:
        record = one.record
        counts = [str(one.count(state) or "-") for state in _STATES]
        rows.append([record.kind, record.name, f"{record.distribution} {record.version}", *counts])
    print_table(["kind", "name", "from", *_STATES], rows, keys=2, spare=("from",))
    for one in found:
        lines = [*_broken(one), *_unchecked(one)]
        if lines:
            print_text(f"\n{one.record.origin}\n" + with_options("\n".join(lines)))


def _broken(one: "Checked") -> list[str]:
    return [f"  broken: {result.law}. {result.detail}" for result in one.results if result.state == "failed"]


def _unchecked(one: "Checked") -> list[str]:
    """What was not checked, with one line for all laws that share a reason."""
    laws: dict[str, list[str]] = {}
    for result in one.results:
        if result.state == "not checked":
            laws.setdefault(result.detail, []).append(result.law)
    return [f"  not checked: {of[0] if len(of) == 1 else f'{len(of)} laws'} ({reason})" for reason, of in laws.items()]
