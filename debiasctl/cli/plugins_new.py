"""`debiasctl plugins new`: writes a package with a plugin to begin with."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from debiasctl.cli import options
from debiasctl.cli.commands import COMMANDS
from debiasctl.cli.completion import complete_kind
from debiasctl.cli.options import option
from debiasctl.cli.output import print_json, say


def new(
    kind: Annotated[str, typer.Argument(help="The plugin's kind.", autocompletion=complete_kind)],
    name: Annotated[str, typer.Argument(help="The plugin's name, as it will be given on the command line.")],
    folder: Annotated[
        Path | None,
        option(
            "--dir", argument="dir", help="The folder to write, which must be new (default: ./ and the package's name)."
        ),
    ] = None,
    package: Annotated[
        str | None, option("--package", metavar="DIST-NAME", help="The package's name (default: debiasctl-NAME).")
    ] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Write a package with a plugin that works, its tests, and all that installing it takes, for you to change.

    \b
    Examples:
      debiasctl plugins new weightings my-scheme
      debiasctl plugins new datasets scans --dir ~/code/scans --package lab-scans
    """
    from debiasctl import registry
    from debiasctl.scaffold import package_for, uses_of, write_package

    kind = registry.kind_named(kind)
    made = package_for(kind, name, distribution=package, taken=COMMANDS if kind == "commands" else ())
    folder = Path(made.distribution) if folder is None else folder
    files = write_package(made, folder)
    steps = [f"cd {shlex.quote(str(folder))}", "python -m pip install -e '.[test]'", "python -m pytest"]
    steps += [f"debiasctl plugins check {kind} {name}", *uses_of(made)]
    if as_json:
        print_json(
            {
                "kind": kind,
                "name": name,
                "distribution": made.distribution,
                "module": made.module,
                "folder": str(folder.absolute()),
                "files": files,
                "next": steps,
            }
        )
        return
    say(f"{folder} is the package {made.distribution} with the {registry.KINDS[kind].singular} '{name}':")
    for file in files:
        say(f"  {file}")
    say("Next, install it, run its tests and use it:")
    for step in steps:
        say(f"  {step}")
