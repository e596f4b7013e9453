"""The command that was given, repeated in a hint with the options that matter there."""

import re
import shlex
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from debiasctl.cli.launch import processes_here
from debiasctl.errors import DebiasctlError

if TYPE_CHECKING:
    from debiasctl.specs.sections import RunSpec

_RESUME = re.compile(r"(debiasctl train --resume (?:'[^'\n]*'|[^\s';]+))(?=[;.]?(?:\s|$))")
_WITHIN_RESUME = ("--device", "--max-hours", "--track")


def given_words(
    context: typer.Context, *, only: Collection[str] | None = None, without: Collection[str] = ()
) -> list[str]:
    """The arguments and options that were given, as words; an argument's name is in capitals, as in DATASET."""
    words: list[str] = []
    for parameter in context.command.params:
        source = parameter.name and context.get_parameter_source(parameter.name)
        if not source or source.name == "DEFAULT":
            continue
        is_argument = parameter.param_type_name == "argument"
        name = parameter.name.upper() if is_argument and parameter.name else parameter.opts[0]
        if name in without or (only is not None and name not in only):
            continue
        words += _words(parameter, context.params[str(parameter.name)], is_argument=is_argument)
    return words


def _words(parameter: Any, value: Any, *, is_argument: bool) -> list[str]:
    values = list(value) if isinstance(value, list | tuple) else [value]
    if is_argument:
        return [str(one) for one in values]
    if isinstance(value, bool):
        return [(parameter.opts if value else parameter.secondary_opts or [""])[0]]
    return [word for one in values for word in (parameter.opts[0], str(one))]


def data_place(context: typer.Context, spec: "RunSpec") -> list[str]:
    """The option --data-dir, where it was given and other commands on a run of this spec take it."""
    from debiasctl.data.moved import bound_path

    return [] if bound_path(spec) is not None else given_words(context, only=("--data-dir",))


@contextmanager
def resumed_alike(context: typer.Context, spec: "RunSpec") -> Iterator[None]:
    """Give the command that resumes a run, where an error names it, the options that this command was given."""
    try:
        yield
    except DebiasctlError as error:
        words = [*data_place(context, spec), *given_words(context, only=_WITHIN_RESUME)]
        if (number := processes_here()) > 1:
            words += ["--processes", str(number)]
        if words and error.args:
            more = shlex.join(words)
            error.args = (_RESUME.sub(lambda found: f"{found[1]} {more}", str(error.args[0])), *error.args[1:])
        raise
