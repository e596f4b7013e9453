"""`debiasctl plugins`: what is installed, and what its options are."""

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer

from debiasctl.boundary import plugin_call
from debiasctl.cli import options
from debiasctl.cli.completion import complete_described, complete_kind
from debiasctl.cli.output import LINES, note, print_json, print_pairs, print_table, print_text
from debiasctl.cli.plugins_check import EXAMPLES, check
from debiasctl.cli.plugins_new import new
from debiasctl.errors import UsageError
from debiasctl.wording import printable

app = typer.Typer(no_args_is_help=True, help="List, describe, check and write plugins.", rich_markup_mode="rich")
app.command(epilog=EXAMPLES)(check)
app.command()(new)


@app.command("list", epilog="[bold]Examples[/bold]  debiasctl plugins list · debiasctl plugins list weightings --json")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="Only this kind.", autocompletion=complete_kind, show_default=False)
    ] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """List the installed plugins of every kind, or of one. Nothing is imported."""
    from debiasctl import registry
    from debiasctl.registry.kinds import OWN_COMMANDS
    from debiasctl.registry.versions import applying, misfit

    kinds = list(registry.KINDS) if kind is None else [registry.kind_named(kind)]
    found = [record for name in kinds for record in registry.records(name)]
    claims = Counter((record.kind, record.name) for record in found)
    claims.update(("commands", name) for name in OWN_COMMANDS)
    needed = {record: misfit(record.requires) for record in found}
    rows: list[dict[str, Any]] = [
        {
            "kind": record.kind,
            "name": record.name,
            "distribution": record.distribution,
            "version": record.version,
            "target": record.target,
            "conflict": claims[record.kind, record.name] > 1,
            "requires": list(applying(record.requires)),
            "usable": needed[record] is None and claims[record.kind, record.name] == 1,
        }
        for record in found
    ]
    for text in registry.metadata_notes():
        note(text)
    if as_json:
        print_json({"plugins": rows})
        return
    print_table(
        ["kind", "name", "distribution", "version", ""],
        [
            [
                *(row[key] for key in ("kind", "name", "distribution", "version")),
                "claimed twice" if row["conflict"] else f"needs {needed[record]}" if needed[record] else "",
            ]
            for record, row in zip(found, rows, strict=True)
        ],
        keys=2,
        spare=("version", "distribution"),
    )


@app.command(epilog="[bold]Example[/bold]  debiasctl plugins describe weightings min-snr")
def describe(
    kind: Annotated[str, typer.Argument(help="The plugin's kind.", autocompletion=complete_kind)],
    name: Annotated[
        str,
        typer.Argument(help="The plugin's name; of a weighting, with options too.", autocompletion=complete_described),
    ],
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Show what a plugin is, where it comes from, and its options with their defaults."""
    from debiasctl import registry
    from debiasctl.cli.plugin_command import plugin_command
    from debiasctl.registry.describe import describe_fields

    kind = registry.kind_named(kind)
    reference = registry.as_ref(name)
    name = reference.name
    record = registry.find(kind, name)
    plugin: Any = plugin_command(record) if kind == "commands" else registry.load(kind, name)
    documentation = f"See: debiasctl {name} --help" if kind == "commands" else _documentation(plugin)
    with plugin_call(record.origin, "Options"):
        options = [] if kind == "commands" else describe_fields(plugin.Options)
    description: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "distribution": record.distribution,
        "version": record.version,
        "target": record.target,
        "documentation": documentation,
        "options": [asdict(option) for option in options],
    }
    if reference.options and kind != "weightings":
        raise UsageError(f"'{reference}': only a weighting is shown with options of yours. Give the name: {name}")
    if kind == "weightings" and (reference.options or not any(option.required for option in options)):
        description |= {"reference": str(reference)} | _curve(str(reference))
    if as_json:
        print_json(description)
        return
    print_pairs(
        {"plugin": f"{registry.KINDS[kind].singular} {name}", "from": f"{record.distribution} {record.version}"}
        | ({"written for": f"the error of {description['space']}"} if "weights" in description else {})
    )
    print_text(f"\n{printable(documentation, kept=LINES)}\n\n")
    if options:
        cells = [[option.name, option.type, option.default_text, option.description] for option in options]
        print_table(["option", "type", "default", "meaning"], cells, prose=True)
    else:
        print("It takes no options.")
    if "weights" in description:
        _show_curve(description)


def _show_curve(description: dict[str, Any]) -> None:
    """The weight in the scheme's own unit as a curve, and in all three as a table."""
    given = "these options" if description["reference"] != description["name"] else "its defaults"
    from debiasctl.cli.curve import print_curve

    space, snr, weights = description["space"], description["snr"], description["weights"]
    print()
    noise = [value**-0.5 for value in snr]  # so that the curve runs from image to noise, as the table and plots do
    label = f"weight on the error of {space}"
    print_curve(noise, weights[space], x_label="1/√SNR, from image to noise", y_label=label, x_log=True)
    chosen = _spread(len(snr), 11)
    rows = [[f"{values[index]:.3g}" for values in (snr, *weights.values())] for index in chosen]
    heads = [f"weight on {unit}" for unit in weights]
    print_table(["SNR", *heads], rows, title=f"With {given} on the linear schedule, not normalised")


def _curve(name: str) -> dict[str, Any]:
    """A weighting's own space, and its weights in all three units, over the SNRs of the linear schedule."""
    from debiasctl import registry
    from debiasctl.analysis.weight_curves import weight_curves

    curves = weight_curves([name], schedule="linear", prediction="eps", normalize="none")
    every = _spread(len(curves.snr), 100)
    weights = {unit: weight[every].tolist() for unit, weight in curves.weights[name].items()}
    return {"space": registry.create("weightings", name).space, "snr": curves.snr[every].tolist(), "weights": weights}


def _spread(size: int, count: int) -> list[int]:
    """`count` evenly spaced indices from the first to the last."""
    return sorted({round((size - 1) * part / (count - 1)) for part in range(count)})


def _documentation(plugin: type) -> str:
    import inspect

    return inspect.getdoc(plugin) or ""
