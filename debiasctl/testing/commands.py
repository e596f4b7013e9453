"""What holds of commands."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from debiasctl.registry import PluginRecord
from debiasctl.registry.entry_points import load_object
from debiasctl.testing.laws import Broken, attempt
from debiasctl.testing.results import Result

MADE = "It is a Typer app"
_MISUSE = 2  # the exit code


def examine_command(record: PluginRecord) -> Iterator[Result]:
    """Check the laws of a command, which has no class and no options, one after another."""
    loaded: list[Any] = []
    result = attempt(MADE, lambda: loaded.append(_command(record)))
    assert result is not None, "it concerns every command"
    yield result
    if result.state != "passed":
        return
    command, name = loaded[0], record.name
    checks = {
        "Its --help works, and says what it does": lambda: _help(command, name),
        "Every option and argument has a help text": lambda: _described(command, name),
        "An unknown option is refused with exit code 2": lambda: _refuses(command, name),
    }
    for law, check in checks.items():
        found = attempt(law, check)
        assert found is not None, "it concerns every command"
        yield found


def _command(record: PluginRecord) -> Any:
    loaded = load_object(record)
    found = typer.main.get_command(loaded) if isinstance(loaded, typer.Typer) else loaded
    if isinstance(found, type) or not (hasattr(found, "main") and hasattr(found, "make_context")):
        raise Broken(f"it is a {type(loaded).__name__}, and should be a typer.Typer()")
    return found


def _all(command: Any, words: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """A command and those below it, each with the words that name it."""
    yield command, words
    below: Mapping[str, Any] = getattr(command, "commands", {})
    for name, one in below.items():
        yield from _all(one, (*words, name))


def _run(command: Any, name: str, words: tuple[str, ...], *arguments: str) -> tuple[int, str]:
    """The exit code of a command, and what it prints."""
    printed, code = io.StringIO(), 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            command.main([*words, *arguments], prog_name=f"debiasctl {name}")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return code, printed.getvalue()


def _help(command: Any, name: str) -> None:
    for one, words in _all(command, ()):
        code, printed = _run(command, name, words, "--help")
        called = " ".join(["debiasctl", name, *words, "--help"])
        if code or not printed.strip():
            raise Broken(f"{called} ended with exit code {code}, and printed {printed.strip()[-200:]!r}")
        if not (one.help or "").strip():
            raise Broken(f"{called} does not say what the command does: give it a docstring")


def _described(command: Any, name: str) -> None:
    for one, words in _all(command, ()):
        bare = [parameter.name for parameter in one.params if not (getattr(parameter, "help", "") or "").strip()]
        if bare:
            raise Broken(f"debiasctl {' '.join([name, *words])} has none for {', '.join(bare)}")


def _refuses(command: Any, name: str) -> None:
    for _, words in _all(command, ()):
        code, printed = _run(command, name, words, "--no-such-option-of-this-command")
        if code != _MISUSE:
            raise Broken(
                f"debiasctl {' '.join([name, *words])} ended with exit code {code} ({printed.strip()[-100:]!r})"
            )
