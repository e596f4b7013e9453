"""`debiasctl runs watch`: the runs that are being trained, until none is."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from debiasctl.cli import options
from debiasctl.cli.options import option
from debiasctl.cli.output import note, say, terminal_width
from debiasctl.cli.run_columns import COLUMNS, ordered
from debiasctl.cli.tables import Table, lines_under_names
from debiasctl.errors import RunNameError, UsageError
from debiasctl.wording import printable

if TYPE_CHECKING:
    from debiasctl.runs.filters import Filter
    from debiasctl.runs.overview import Overview

_COLUMNS = ("name", "state", "step", "speed", "left", "loss", "best", "metric")
_SPARE = ("metric", "best", "loss", "speed")
_LIVE, _LINES = 2.0, 30.0  # seconds between two looks, on a terminal and elsewhere


def watch(
    runs: Annotated[list[str] | None, options.run_argument("[RUN]...", "Only these: names, or patterns.")] = None,
    where: Annotated[list[str] | None, options.WHERE] = None,
    every: Annotated[
        float | None,
        option("--every", metavar="SECONDS", help="How often to look (default: 2; 30 where there is no terminal)."),
    ] = None,
) -> None:
    """Show the runs that are being trained, their speed and the time left, until none is. Ctrl-C ends this alone.

    \b
    Examples:
      debiasctl runs watch
      debiasctl runs watch 'cifar-*' > progress.log
    """
    if every is not None and not 0.1 <= every <= 86_400:
        raise UsageError(f"--every {every}: give a time from 0.1 to 86400 seconds")
    chosen, begun = options.parse_filter(where), set[str]()
    found = _look(runs or [], chosen, begun)
    if not found:
        note("No run is being trained. See all: debiasctl runs list")
        return

    def look() -> "list[Overview]":
        return _look(runs or [], chosen, begun)

    if sys.stdout.isatty():
        _show_live(found, look, seconds=every or _LIVE)
    else:
        _print_lines(found, look, seconds=every or _LINES)


def _look(patterns: Sequence[str], where: "Filter | None", begun: set[str]) -> "list[Overview]":
    """The runs that are being trained, and those that were when this was called before; their paths are in `begun`."""
    from debiasctl.runs.selection import overviews

    try:
        found, _ = overviews(patterns)
    except RunNameError:
        if not begun:
            raise
        found = _those_left(patterns)  # what was named was removed meanwhile, and the others are still watched
    else:
        begun |= {
            str(one.run.path)
            for one in found
            if one.summary.state == "training" and (where is None or where.matches(one))
        }
    return ordered([one for one in found if str(one.run.path) in begun], "state")


def _those_left(patterns: Sequence[str]) -> "list[Overview]":
    from debiasctl.runs.selection import overviews

    found: dict[Path, Overview] = {}
    for pattern in patterns:
        with suppress(RunNameError):
            found |= {one.run.path: one for one in overviews([pattern])[0]}
    return list(found.values())


def _show_live(found: "list[Overview]", look: "Callable[[], list[Overview]]", *, seconds: float) -> None:
    """One table that is kept up to date."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def table() -> Text:
        return Text("\n".join(_table(found)), no_wrap=True, overflow="crop")

    with Live(table(), console=Console(file=sys.stdout, highlight=False), auto_refresh=False) as live:
        while _any_running(found):
            time.sleep(seconds)
            found = look()
            live.update(table(), refresh=True)
    note(_ending(found))


def _print_lines(found: "list[Overview]", look: "Callable[[], list[Overview]]", *, seconds: float) -> None:
    """A line for each run whenever it has got further."""
    said: dict[str, tuple[str, int | None]] = {}
    while True:
        for one in found:
            standing = (one.summary.state, one.step)
            if said.get(str(one.run.path)) != standing:
                said[str(one.run.path)] = standing
                say(_line(one))
        sys.stdout.flush()
        if not _any_running(found):
            note(_ending(found))
            return
        time.sleep(seconds)
        found = look()


def _any_running(found: "Sequence[Overview]") -> bool:
    return any(one.summary.state == "training" for one in found)


def _table(found: "Sequence[Overview]") -> list[str]:
    shown = [COLUMNS[key] for key in _COLUMNS if not COLUMNS[key].optional or any(map(COLUMNS[key].text, found))]
    rows = [[printable(column.text(one)) for column in shown] for one in found]
    spare = [COLUMNS[key].title for key in _SPARE if COLUMNS[key] in shown]
    return lines_under_names(Table([one.title for one in shown], rows, spare=spare, rule=""), terminal_width())[0]


def _line(one: "Overview") -> str:
    """A run's name, state and step; its speed, the time left and the loss, once there are any."""
    parts = [one.run.name, one.summary.state, COLUMNS["step"].text(one)]
    if one.summary.state == "training" and one.latest is not None:
        parts += [f"{COLUMNS['speed'].text(one)} images/s", f"loss {COLUMNS['loss'].text(one)}"]
        parts += [f"{COLUMNS['left'].text(one)} left"] if one.seconds_left is not None else []
    return "  ".join(parts)


def _ending(found: "Sequence[Overview]") -> str:
    states = Counter(one.summary.state for one in found)
    ended = ", ".join(f"{count} {state}" for state, count in states.items()) or "they were removed"
    return f"No run is being trained any more: {ended}."
