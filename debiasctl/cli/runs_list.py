"""`debiasctl runs list`: the runs in the store, chosen, sorted, and in columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from debiasctl.cli import options
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_table, say
from debiasctl.cli.run_columns import (
    COLUMNS,
    Column,
    chosen_columns,
    complete_columns,
    complete_sort,
    ordered,
    useful_columns,
)
from debiasctl.cli.table_output import Form, table_text
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.runs.overview import Overview

_SPARE = (
    "created", "updated", "metric", "note", "disk", "loss", "seed", "dataset", "tags", "speed", "step", "best",
    "weighting", "left",
)  # fmt: skip


def list_(
    runs: Annotated[list[str] | None, options.run_argument("[RUN]...", "Only these: names, or patterns.")] = None,
    where: Annotated[list[str] | None, options.WHERE] = None,
    sort: Annotated[
        str,
        option(
            "--sort", metavar="COLUMN", help="By this column; -COLUMN: largest first.", autocompletion=complete_sort
        ),
    ] = "created",
    top: Annotated[int | None, option("--top", metavar="N", min=1, help="The first N alone.")] = None,
    columns: Annotated[
        str | None,
        option(
            "--columns",
            argument="shown_columns",
            metavar="COLUMN,...",
            help="These columns; any setting is one too.",
            autocompletion=complete_columns,
        ),
    ] = None,
    everything: Annotated[bool, option("--all", help="All columns, disk use too.")] = False,
    as_csv: Annotated[bool, option("--csv", argument="as_csv", help="Print CSV.")] = False,
    as_markdown: Annotated[bool, option("--md", help="Print a table in Markdown.")] = False,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """List runs, oldest first.

    \b
    Examples:
      debiasctl runs list
      debiasctl runs list --where 'weighting=debiased and state!=failed' --sort best --top 5
      debiasctl runs list 'cifar-*' --columns name,lr,best,disk --csv
    """
    from debiasctl.runs.listing import unfinished
    from debiasctl.runs.selection import overviews

    if as_json + as_csv + as_markdown > 1:
        raise UsageError("--json, --csv and --md are ways to print one table. Give one of them")
    if everything and columns is not None:
        raise UsageError("--all shows every column. Leave it or --columns out")
    if as_json and columns is not None:
        raise UsageError("--json prints everything that is known of a run; --columns is for the other forms")
    shown = None if columns is None else chosen_columns(columns)
    found, notes = overviews(runs or [], options.parse_filter(where))
    found = ordered(found, sort)[:top]
    if as_json:
        print_json({"runs": [_as_json(one, with_disk=everything) for one in found]})
    else:
        for path in unfinished():
            note(
                f"note: {path} was left unfinished by a command that was killed. The next command that writes to the "
                "store removes it"
            )
        wanted = shown or useful_columns(found, everything=everything)
        if as_csv:  # always the same columns, for those who read them
            print_form("csv", shown or [one for one in COLUMNS.values() if everything or one.key != "disk"], found)
        elif as_markdown:
            print_form("md", wanted, found)
        elif found:
            print_overview(found, wanted, whole=shown is not None)
        elif not notes:
            note("There are no runs yet. Make one: debiasctl train digits")
    for text in notes:
        note(f"note: {text}")
    ranked = [one for one in found if one.best] if sort.removeprefix("-") == "best" else []
    for what in ({one.best.metric for one in ranked if one.best}, {one.status.dataset for one in ranked}):
        if len(what) > 1:
            note(f"note: {', '.join(sorted(what))} cannot be ranked against one another: runs are sorted within each")
    for one in found:
        for problem in one.problems:
            note(problem)


def print_overview(found: "Sequence[Overview]", columns: Sequence[Column], *, whole: bool) -> None:
    """A table in which columns give way where there is no room for them, unless it is to be `whole`."""
    print_table(
        [one.title for one in columns],
        [[column.text(one) for column in columns] for one in found],
        spare=() if whole else [one.title for key in _SPARE for one in columns if one.key == key],
        ruled=False,
        named_above=True,
    )


def print_form(form: Form, columns: Sequence[Column], found: "Sequence[Overview]") -> None:
    """A table for other programs: values, where a terminal has texts."""
    titles = [one.key if form == "csv" else one.title.lower() for one in columns]
    rows = [[column.value(one) if form == "csv" else column.text(one) for column in columns] for one in found]
    say(table_text(form, titles, rows).removesuffix("\n"))


def _as_json(one: "Overview", *, with_disk: bool) -> dict[str, Any]:
    labels, latest = one.shown_labels, one.latest
    return {
        "name": one.run.name,
        "path": str(one.run.path),
        "state": one.summary.state,
        "status": None if one.is_damaged else vars(one.status),
        "tags": list(labels.tags),
        "note": labels.note,
        "best": one.best and vars(one.best),
        "latest": latest and vars(latest),
        "seconds_left": one.seconds_left,
        "disk": one.disk if with_disk else None,
        "problem": "; ".join(one.problems) or None,
    }
