"""Results go to stdout, notes and logs to stderr."""

import json
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from debiasctl.cli.messages import with_options

if TYPE_CHECKING:
    from rich.console import Console


_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")  # Unicode's categories of control, format and unassigned characters
JSON_VERSION = 1  # raised when a key of any command's JSON is renamed, removed or given another meaning


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout, with the version of the commands' keys before all else."""
    print(json.dumps({"json_version": JSON_VERSION, **value}, indent=2, allow_nan=False))


def console() -> "Console":
    """A rich console on stdout; as wide as its content where stdout is no terminal."""
    from rich.console import Console

    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=max(plain.width, 160))


def note(text: str) -> None:
    """A line on stderr; settings that it names are given their options."""
    print(visible(with_options(text)), file=sys.stderr, flush=True)


def say(text: object) -> None:
    """A line of results on stdout; a name in it that could steer a terminal is escaped there, and whole in a pipe."""
    print(visible(str(text)) if sys.stdout.isatty() else text)


def visible(text: str) -> str:
    """Text for a terminal, with escapes in place of control characters but for the ends of lines and tabs.

    A file's or a run's name may hold any, and would otherwise move the cursor or hide what follows.
    """
    return "".join(
        one if one in "\n\t" or unicodedata.category(one) not in _UNSEEN else ascii(one)[1:-1] for one in text
    )


def show_log() -> None:
    """Let what the package logs (from INFO on) through to stderr; a warning of it is a note."""
    import logging

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            is_note = record.name.startswith("debiasctl") and record.levelno >= logging.WARNING
            text = super().format(record)
            return visible(with_options(f"note: {text}" if is_note else text))

    class Handler(logging.StreamHandler[Any]):
        def emit(self, record: logging.LogRecord) -> None:
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


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """A table on stdout; columns of numbers are aligned to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*[Text(printable(cell)) for cell in row])
    console().print(table)


def print_pairs(pairs: Mapping[str, str]) -> None:
    """Names and values in two columns on stdout."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        table.add_row(Text(name, style="bold"), Text(printable(value)))
    console().print(table)


def printable(text: str) -> str:
    """Text from a file as it may go to a terminal: an imported run could hold control sequences."""
    return text if text.isprintable() else repr(text)


def _is_number(text: str) -> bool:
    try:
        float(text.split(" ")[0].replace(",", "") or "0")
    except ValueError:
        return text in ("-", "")
    return True
