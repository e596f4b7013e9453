"""The command line's entry point: the commands, the global options, and how errors end."""

import io
import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from debiasctl import __version__
from debiasctl.boundary import summary
from debiasctl.cli import interruption
from debiasctl.cli.commands import COMMANDS, Commands, stand_in
from debiasctl.cli.launch import rank
from debiasctl.cli.messages import with_options
from debiasctl.cli.output import LINES, show_warnings
from debiasctl.cli.results import results_on_stdout
from debiasctl.cli.streams import finish, share_stdout
from debiasctl.cli.synonyms import improve
from debiasctl.cli.values import joined, number_wanted
from debiasctl.compute.memory import out_of_memory
from debiasctl.compute.threads import wait_briefly
from debiasctl.errors import DebiasctlError, PluginError, UsageError
from debiasctl.reading.regular import read_text
from debiasctl.wording import printable, shortened

_DEBUG = {"on": False}
_LATER = 3.0  # seconds
_VALUE = 40  # characters of a refused value that are shown


class _Group(TyperGroup):
    """The built-in commands and those of plugins; a plugin's command is imported when it is used."""

    def __init__(self, **settings: Any) -> None:
        """Take the built-in commands, none of which is imported yet."""
        super().__init__(**settings)
        self.commands = Commands()
        self._listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Built-in names, then plugins' names."""
        return [*COMMANDS, *sorted(_plugin_commands().keys() - COMMANDS.keys())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A built-in command, else a stand-in for a plugin's, so that a broken plugin cannot harm the help."""
        if cmd_name in COMMANDS:
            return stand_in(cmd_name, COMMANDS[cmd_name]) if self._listing else super().get_command(ctx, cmd_name)
        distribution = _plugin_commands().get(cmd_name)
        return None if distribution is None else stand_in(cmd_name, f"From the plugin package {distribution}.")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """List the commands without importing them."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is to run; a plugin's is imported here."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is None or ctx.resilient_parsing:
            return name, command, rest
        if name in COMMANDS:
            _refuse_empty(rest)
            return name, command, rest
        from debiasctl import registry
        from debiasctl.cli.plugin_command import plugin_command

        share_stdout()
        return name, plugin_command(registry.find("commands", name)), rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; unknown options are answered with the one that was meant, refused values are quoted."""
        words = [*getattr(ctx, "_protected_args", []), *ctx.args]
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(error, typer.BadParameter):
                value = _given_value(words, getattr(error.param, "opts", []))
                error.message = number_wanted(error.param, error.message, value) or error.message
                if value is not None and value not in error.message:
                    error.message = f"{value[:_VALUE]!r}: {error.message}"
            if hasattr(error, "format_message"):  # the parser's own
                improve(error)
            if (meant := joined(error, _parameters_of(self, words), words)) is not None:
                _add(error, meant)
            raise


def _add(error: Exception, text: str) -> None:
    """Add a sentence to an error of the parser, which keeps its message by itself, or to one of ours."""
    if isinstance(error, DebiasctlError):
        error.args = (f"{error}\n{text}",)
    else:
        error.message = f"{error.message}. {text}"  # type: ignore[attr-defined]


def _parameters_of(command: Any, words: list[str]) -> list[Any]:
    """The options and arguments of the command that the words name, below a group."""
    found = command
    for word in words:
        if word not in getattr(found, "commands", {}):
            break
        found = found.commands[word]
    return list(getattr(found, "params", []))


app = typer.Typer(
    name="debiasctl",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find out which loss weighting to train a diffusion model with, and why (arXiv 2310.08442).\n\n"
    "[bold]Example[/bold]  debiasctl train digits --name a && debiasctl sample a --out grid.png",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"debiasctl {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    _DEBUG["on"] = debug
    from debiasctl.registry.metadata import tolerate_broken_metadata  # here, because the help needs nothing of metadata

    tolerate_broken_metadata()


def main() -> NoReturn:
    """Run the command line; exit codes are 0 done, 1 failed, 2 misuse, 130 interrupted."""
    wait_briefly()
    if "_DEBIASCTL_COMPLETE" in os.environ:  # which asks for values without the callback of global options
        from debiasctl.registry.metadata import tolerate_broken_metadata

        tolerate_broken_metadata()
    if os.environ.get("_DEBIASCTL_COMPLETE") in ("complete_bash", "complete_zsh"):
        _complete(os.environ["_DEBIASCTL_COMPLETE"].removeprefix("complete_"))
    try:
        try:
            with interruption.raising():
                show_warnings(first_process=rank() == 0)
                with results_on_stdout():
                    app(prog_name="debiasctl")
        finally:
            finish()
    except SystemExit as end:
        if end.code == 130:
            _end_interrupted()
        raise
    except KeyboardInterrupt:
        _end_interrupted()
    except PluginError as error:
        _fail(error, f"{with_options(str(error))}\ndebiasctl --debug ... shows the traceback", error.exit_code)
    except DebiasctlError as error:
        _fail(error, with_options(str(error)), error.exit_code)
    except BrokenPipeError:
        sys.exit(1)  # the reader of the results has enough, as `head` has
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(error, f"{error.strerror or error}{where}", 1)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug ends as one message too
        if interruption.received() is not None:  # a package turned the interruption into an exception of its own
            _end_interrupted()
        message = out_of_memory(error)
        if message is not None:
            _fail(error, message, 1)
        _fail(error, f"{summary(error)}\nThis looks like a bug; debiasctl --debug ... shows where", 1)
    sys.exit(0)


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse an empty argument, which would otherwise mean the working folder, or nothing.

    Raises:
        UsageError: if there is one.
    """
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, equals, value = argument.partition("=")
        if argument.strip() and not (option.startswith("--") and equals and not value.strip()):
            continue
        named = option if equals else before if before.startswith("-") and "=" not in before else "an argument"
        raise UsageError(f"{named} is empty: is a variable of the shell unset? Give a value, or leave it out")


def _complete(shell: str) -> NoReturn:
    """Answer bash, which replaces only what stands behind the last ':' or '=' of a word, or zsh, which replaces all."""
    from contextlib import redirect_stdout

    from debiasctl.cli.completion import bash_words, for_zsh

    left_out, answer = bash_words() if shell == "bash" else "", io.StringIO()
    try:
        with redirect_stdout(answer):
            app(prog_name="debiasctl")
    except SystemExit as end:
        said = answer.getvalue()
        lines = (line.removeprefix(left_out) for line in said.splitlines())
        print(for_zsh(said) if shell == "zsh" else "\n".join(lines))
        sys.exit(end.code)
    sys.exit(0)


def _given_value(words: list[str], names: list[str]) -> str | None:
    """What was given to an option of these names, the last time; None if it cannot be said."""
    given = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name in names:
            given = value if equals else following
    return given


def _end_interrupted() -> NoReturn:
    """End with one line, and 128 + the number of the signal that came."""
    number = interruption.received() or signal.SIGINT
    interruption.say(interruption.ending(number))
    sys.exit(128 + number)


def _fail(error: BaseException, message: str, code: int) -> NoReturn:
    if _DEBUG["on"]:
        import traceback

        traceback.print_exception(error)
    message = shortened(printable(message, kept=LINES))
    try:
        number = rank()
    except UsageError:  # which is then what is reported
        number = 0
    if number == 0:
        print(f"error: {message}" if code else message, file=sys.stderr, flush=True)
    else:
        if code == 1:  # what all processes refuse alike, the first one reports
            print(f"error in process {number}: {message}", file=sys.stderr, flush=True)
        time.sleep(_LATER)  # once one process has ended, torchrun ends the others: the first is to have spoken
    sys.exit(code)


def _plugin_commands() -> dict[str, str]:
    """Map each plugin command's name to its distribution."""
    if not _any_distribution_offers("debiasctl.commands"):
        return {}
    from debiasctl import registry

    return {record.name: record.distribution for record in registry.records("commands")}


def _any_distribution_offers(group: str) -> bool:
    """Whether some installed distribution may have entry points of that group: a text search, cheap at start-up."""
    for folder in sys.path:
        path = Path(folder or ".")
        if path.is_file():
            return True  # a zip on the path: let importlib.metadata look
        if not path.is_dir():
            continue
        try:
            with os.scandir(path) as entries:
                found = [entry.path for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
        except OSError:  # a folder on the path that may not be read holds no plugin for us
            continue
        for metadata in found:
            try:
                text = read_text(os.path.join(metadata, "entry_points.txt"))
            except (OSError, ValueError):
                continue
            if f"[{group}]" in text:
                return True
    return False
