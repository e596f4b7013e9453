"""Results go to stdout, notes and logs to stderr."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from debiasctl.cli.messages import with_options
from debiasctl.cli.tables import GAP, INDENT, Table, left_out, lines_under_names, table_lines, text_width, wrapped
from debiasctl.python.records import JSON_VERSION
from debiasctl.reading.user_text import whole_number
from debiasctl.wording import printable

_NARROWEST = 20  # columns: less is no terminal that anyone reads in
LINES = "\n\t"  # what lays out text of several lines


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout, with the version of the commands' keys before all else."""
    print(json.dumps({"json_version": JSON_VERSION, **value}, indent=2, allow_nan=False))


def terminal_width() -> int | None:
    """Columns of the terminal, or what $COLUMNS says; None where stdout is a pipe or a file, which have no end."""
    import shutil

    said = whole_number(os.environ.get("COLUMNS", ""))
    if not said and not sys.stdout.isatty():
        return None
    return max(said or shutil.get_terminal_size().columns, _NARROWEST)


def note(text: str) -> None:
    """A line on stderr; settings that it names are given their options."""
    print(printable(with_options(text), kept=LINES), file=sys.stderr, flush=True)


def say(text: object) -> None:
    """A line of results on stdout; a name in it that could steer a terminal is escaped there, and whole in a pipe."""
    print(printable(str(text), kept=LINES) if sys.stdout.isatty() else text)


def show_log() -> None:
    """Let what the package logs (from INFO on) through to stderr; a warning of it is a note, which is shown once."""
    import logging

    noted = set[str]()

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            is_note = record.name.startswith("debiasctl") and record.levelno >= logging.WARNING
            text = super().format(record)
            return printable(with_options(f"note: {text}" if is_note else text), kept=LINES)

    class Handler(logging.StreamHandler[Any]):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                text = self.format(record)
                if text in noted:
                    return
                noted.add(text)
            self.stream = sys.stderr  # what it is now: a bar takes its place while it is shown
            super().emit(record)

    handler = Handler(sys.stderr)
    handler.setFormatter(Formatter())
    logging.basicConfig(handlers=[handler])
    logging.getLogger("debiasctl").setLevel(logging.INFO)


def show_warnings(*, first_process: bool) -> None:
    """Show what libraries warn of as notes of the first process, without the file and line that Python adds."""
    import warnings

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if first_process:
            note(f"note: {' '.join(str(message).split())} ({category.__name__})")

    warnings.showwarning = show


def print_text(text: str) -> None:
    """Sentences on stdout, their lines broken between words; what is indented stays so."""
    width = terminal_width()
    text = printable(text, kept=LINES) if sys.stdout.isatty() else text
    for line in text.splitlines() or [""]:
        indent = line[: len(line) - len(line.lstrip())]
        lines = [line.strip()] if width is None else wrapped(line, width - len(indent))
        print("\n".join(f"{indent}{part}".rstrip() for part in lines))


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str | None = None,
    keys: int = 1,
    prose: bool = False,
    spare: Sequence[str] = (),
    ruled: bool = True,
    named_above: bool = False,
) -> None:
    """A table on stdout, as `tables.Table` describes it; columns of numbers are aligned to the right.

    With `named_above`, the longest names stand in lines of their own where there is no room for them.
    """
    width = terminal_width()
    shown = [[printable(cell) for cell in row] for row in rows]
    table = Table(columns, shown, keys=keys, prose=prose, spare=spare, rule=line_of() if ruled else "")
    if title is not None:
        print_text(title)
    if named_above:
        lines, gone = lines_under_names(table, width)
    else:
        lines, gone = list(table_lines(table, width)), left_out(table, width)
    print("\n".join([*lines, *([""] if ruled else [])]))
    if gone:
        note(
            f"note: {len(gone)} column{'s do' if len(gone) > 1 else ' does'} not fit in {width} columns "
            f"({', '.join(gone)}): --json or a wider terminal shows {'them' if len(gone) > 1 else 'it'}"
        )


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Names and values in two columns on stdout."""
    width, size = terminal_width(), max(map(len, pairs))
    for name, value in pairs.items():
        text = printable(value)
        room = None if width is None else width - size - len(GAP)
        lines = [text] if room is None else wrapped(text, room)
        if room is not None and max(map(text_width, lines)) > room:  # a long path is whole on a line of its own
            print(name)
            print_text(INDENT + text)
            continue
        for number, line in enumerate(lines):
            print(f"{'' if number else name:{size}}{GAP}{line}".rstrip())


def line_of() -> str:
    """What a line is drawn with; a stream that knows only ASCII has a hyphen."""
    try:
        "─".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "-"
    return "─"
