"""Every command with its arguments and options, read from the command line itself."""

import re
from collections.abc import Iterator
from typing import Any

import typer

from debiasctl.cli.app import app

from .markdown import anchored, code, docstring, table, text

_VALUES = {
    "<int( range)?>|integer( range)?": "N",
    "<float( range)?>|float( range)?": "X",
    "<str>|text": "TEXT",
    "<path>": "PATH",
}


def commands() -> Iterator[tuple[str, Any]]:
    """Name and command of each that does something; plugins' commands are left out."""
    yield from _inner("debiasctl", typer.main.get_command(app))


def examples(command: Any) -> list[str]:
    """The command lines that its help shows."""
    shown = _plain((command.epilog or "") + (command.help or "").partition("Example")[2])
    lines = re.sub(r"^ *Examples?:? +", "", shown, flags=re.MULTILINE).replace(" · ", "\n").splitlines()
    return [line.strip() for line in lines if "debiasctl " in line]


def page() -> str:
    """The body of the page."""
    return "\n\n".join([_global_options(), *(_section(name, command) for name, command in commands())])


def _inner(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    if command.invoke_without_command:  # a group that does something by itself
        yield name, command
    for part, one in inner.items():
        yield from _inner(f"{name} {part}", one)


def _global_options() -> str:
    return "\n\n".join(
        [anchored("debiasctl", "## debiasctl"), "Before any command:", _options(typer.main.get_command(app))]
    )


def _section(name: str, command: Any) -> str:
    prose = (command.help or "").partition("\b")[0].partition("Example")[0]
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    usage = " ".join([name, *(_metavar(argument) for argument in arguments), "[OPTIONS]"])
    parts = [
        anchored(name.replace(" ", "-"), f"## {name.removeprefix('debiasctl ')}"),
        docstring(_plain(prose)),
        f"```text\n{usage}\n```",
        _arguments(arguments),
        _options(command),
        "\n".join(["```sh", *examples(command), "```"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _arguments(arguments: list[Any]) -> str:
    rows = [[code(_metavar(argument)), text(argument.help or "")] for argument in arguments]
    return table(["argument", "meaning"], rows) if rows else ""


def _options(command: Any) -> str:
    context = command.make_context(command.name, [], resilient_parsing=True)
    shown = [one for one in command.get_params(context) if one.param_type_name == "option" and not one.hidden]
    rows = [[code(_spelling(one, context)), _default(one), text(_plain(one.help or ""))] for one in shown]
    return table(["option", "default", "meaning"], rows)


def _spelling(option: Any, context: Any) -> str:
    """Its names and what stands for its value, where the parser says no more than the value's type."""
    shown: str = option.get_help_record(context)[0]
    for kind, name in _VALUES.items():
        shown = re.sub(rf" ({kind})$", f" {name}", shown, flags=re.IGNORECASE)
    return shown


def _metavar(argument: Any) -> str:
    shown = argument.metavar or argument.name.upper()
    return shown if argument.required or shown.startswith("[") else f"[{shown}]"


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if option.is_flag or option.default is None or callable(option.default):
        return ""
    return code(str(option.default))


def _plain(help_text: str) -> str:
    """Help without rich's marks."""
    return re.sub(r"\[/?bold\]", "", help_text).replace("\b", "")
