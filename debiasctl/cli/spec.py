"""`debiasctl spec`: the settings that decide what a run trains."""

from dataclasses import asdict
from typing import Annotated

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_section
from debiasctl.cli.output import note, print_json, print_table

app = typer.Typer(no_args_is_help=True, help="Describe the settings of a run spec.", rich_markup_mode="rich")

EXAMPLES = """[bold]Examples[/bold]

debiasctl spec describe

debiasctl spec describe training

debiasctl spec describe ema.decay

debiasctl spec describe ema --json"""


@app.callback()
def _spec() -> None:
    """Keep `describe` a subcommand: an app of one command alone would take its place."""


@app.command(epilog=EXAMPLES)
def describe(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="SECTION[.SETTING]",
            help="Only this section, or this setting.",
            autocompletion=complete_section,
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """List every setting of a run spec: its type and range, its default and what it does.

    A setting is given by --set SECTION.SETTING=VALUE, or in the file that --spec names.
    """
    from debiasctl.specs.describe import describe_spec

    sections = describe_spec(section)
    if as_json:
        print_json({"sections": [asdict(one) for one in sections]})
        return
    for one in sections:
        rows = [[field.name, field.type, field.default_text, field.description] for field in one.settings]
        print_table(["setting", "type", "default", "meaning"], rows, prose=True, title=f"{one.name}: {one.summary}")
    note("note: a data set may recommend other values; what a run would be given: debiasctl train DATASET --dry-run")
