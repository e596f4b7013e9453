"""`debiasctl weightings`: the weights that schemes give, as tables and plots."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options, weightings_identify
from debiasctl.cli.completion import complete_plugin
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_table, say
from debiasctl.cli.summaries import print_summaries
from debiasctl.cli.weightings_fit import EXAMPLES as FIT_EXAMPLES
from debiasctl.cli.weightings_fit import fit
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.analysis.weight_curves import WeightCurves

app = typer.Typer(no_args_is_help=True, help="Tabulate and plot loss weightings.", rich_markup_mode="rich")

app.command(epilog=FIT_EXAMPLES)(fit)

References = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="REF",
        help="Weightings, as name or name:key=value,...",
        autocompletion=complete_plugin("weightings"),
        show_default=False,
    ),
]
PLOTTED = ["constant", "p2", "min-snr", "debiased"]  # the ones that the paper compares
_COLUMNS = 6

TABLE_EXAMPLES = """[bold]Examples[/bold]

debiasctl weightings table debiased min-snr:gamma=5 --schedule cosine --prediction v

debiasctl weightings table --normalize none --json > weights.json"""
PLOT_EXAMPLES = """[bold]Examples[/bold]

debiasctl weightings plot --out weights.png

debiasctl weightings plot constant debiased sigmoid --schedule cosine --prediction v --out weights.svg"""


@app.command("list", epilog="[bold]Example[/bold]  debiasctl weightings list")
def list_(as_json: Annotated[bool, options.AS_JSON] = False) -> None:
    """List the installed weightings with what each is. Nothing is imported."""
    print_summaries("weightings", as_json=as_json)
    if not as_json:
        note("next: debiasctl plugins describe weightings min-snr")


app.command(epilog=weightings_identify.EXAMPLES)(weightings_identify.identify)


@app.command(epilog=TABLE_EXAMPLES)
def table(
    references: References = None,
    schedule: Annotated[str, options.SCHEDULE] = "linear",
    prediction: Annotated[str, options.PREDICTION] = "eps",
    normalize: Annotated[str, options.NORMALIZE] = "mean",
    as_json: Annotated[bool, options.AS_JSON] = False,
    as_csv: Annotated[bool, option("--csv", help="Print CSV, a line for each t and weighting.")] = False,
) -> None:
    """Print weights on the errors of eps, x0, v and flow over the timesteps of a schedule.

    Without REF, of every weighting that needs no options. The weights are those of the start of training; JSON and CSV
    hold them for every t.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv are two ways to print one table. Give one of them")
    if normalize == "mean":  # what is wrong with these is not any weighting's fault
        _curves(["constant"], schedule=schedule, prediction=prediction, normalize=normalize)
    names = references or _usable(schedule=schedule, prediction=prediction, normalize="none")
    curves = _curves(names, schedule=schedule, prediction=prediction, normalize=normalize)
    if as_json:
        weights = {
            name: {unit: weight.tolist() for unit, weight in units.items()} for name, units in curves.weights.items()
        }
        print_json({"snr": curves.snr.tolist(), "t": list(range(len(curves.snr))), "weights": weights})
    elif as_csv:
        _print_csv(curves)
    else:
        _print_tables(curves, schedule=schedule, prediction=prediction, normalize=normalize)


@app.command(epilog=PLOT_EXAMPLES)
def plot(
    references: References = None,
    out: Annotated[Path, option("--out", "-o", metavar="FILE", help="Picture to write: .png, .svg or .pdf.")] = Path(
        "weights.png"
    ),
    schedule: Annotated[str, options.SCHEDULE] = "linear",
    prediction: Annotated[str, options.PREDICTION] = "eps",
    normalize: Annotated[str, options.NORMALIZE] = "mean",
    timesteps: Annotated[str, options.TIMESTEPS] = "uniform",
    width: Annotated[str | None, options.WIDTH] = None,
) -> None:
    """Plot effective weights, times the density of t, against t and against log-SNR, on eps, x0, v and flow.

    Of a column's width, it is the plot on the error of what the network predicts. Without REF: constant, p2, min-snr
    and debiased.
    """
    from debiasctl.files import check_file
    from debiasctl.reporting.style import FORMATS

    check_file(out, argument="out", endings=FORMATS)
    wide = options.parse_width(width)
    _check_names(references or PLOTTED, schedule=schedule, timesteps=timesteps)
    from debiasctl.analysis.weight_plot import plot_weights

    curves = _curves(
        references or PLOTTED, schedule=schedule, prediction=prediction, normalize=normalize, timesteps=timesteps
    )
    plot_weights(
        out, curves, schedule=schedule, prediction=_prediction(prediction), normalize=normalize, timesteps=timesteps,
        width=wide,
    )  # fmt: skip
    say(out)


def _check_names(references: list[str], *, schedule: str, timesteps: str) -> None:
    """Refuse, before torch is imported, a plugin that does not exist."""
    from debiasctl import registry

    named = [("schedules", schedule), ("timesteps", timesteps), *(("weightings", one) for one in references)]
    for kind, text in named:
        registry.find(kind, registry.as_ref(text).name)


def _curves(references: list[str], *, timesteps: str = "uniform", **settings: str) -> "WeightCurves":
    from debiasctl.analysis.weight_curves import weight_curves

    normalize = settings["normalize"]
    if normalize not in ("mean", "none"):
        raise UsageError(f"--normalize {normalize}: choose mean or none")
    return weight_curves(
        references,
        schedule=settings["schedule"],
        prediction=_prediction(settings["prediction"]),
        normalize="mean" if normalize == "mean" else "none",
        timesteps=timesteps,
    )


def _prediction(text: str) -> Any:
    from debiasctl.diffusion.parameterization import PREDICTIONS

    if text not in PREDICTIONS:
        raise UsageError(f"--prediction {text}: choose one of {', '.join(PREDICTIONS)}")
    return text


def _usable(**settings: str) -> list[str]:
    """Names of the weightings that can be made without options; a broken plugin is named and left out."""
    from debiasctl import registry
    from debiasctl.errors import DebiasctlError, PluginOptionsError

    names = []
    for name in sorted({record.name for record in registry.records("weightings")}):
        try:
            registry.resolve("weightings", name)
        except PluginOptionsError:
            continue
        except DebiasctlError as error:
            note(f"left out: {error}")
            continue
        try:
            _curves([name], **settings)
        except DebiasctlError as error:
            note(f"'{name}' is left out: {error}")
        else:
            names.append(name)
    return names


def _print_csv(curves: "WeightCurves") -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["t", "snr", "weighting", *curves.units])
    for name, units in curves.weights.items():
        columns = zip(curves.snr.tolist(), *[weight.tolist() for weight in units.values()], strict=True)
        writer.writerows([t, snr, name, *values] for t, (snr, *values) in enumerate(columns))


def _print_tables(curves: "WeightCurves", *, schedule: str, prediction: str, normalize: str) -> None:
    """One table a unit: a row each weighting, a column each of some timesteps evenly spaced over the schedule."""
    last = len(curves.snr) - 1
    chosen = sorted({round(last * part / (_COLUMNS - 1)) for part in range(_COLUMNS)})
    scaled = f"mean 1 on {prediction}" if normalize == "mean" else "as published"
    for unit in curves.units:
        what = "the network's output F" if unit == "edm" else f"the error of {unit}"
        rows = [["SNR", *[f"{curves.snr[t]:.2g}" for t in chosen]]]
        rows += [[name, *[f"{weights[unit][t]:.2g}" for t in chosen]] for name, weights in curves.weights.items()]
        title = f"Weight on {what} ({schedule} schedule, {scaled})"
        print_table(["t", *map(str, chosen)], rows, title=title)
