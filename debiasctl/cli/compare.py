"""`debiasctl compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from debiasctl.cli import options
from debiasctl.cli.comparison_table import CONDITIONS, print_comparison
from debiasctl.cli.completion import complete_metrics
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_text
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.comparison.tables import Comparison
    from debiasctl.reporting.style import Width
    from debiasctl.runs.store import Run

EXAMPLES = """[bold]Examples[/bold]

debiasctl compare digits-debiased digits-constant

debiasctl compare a b c --metric fd_local --csv figures.csv"""


def compare(
    runs: Annotated[list[str], options.run_argument("RUN RUN...", "The runs.")],
    metric: Annotated[str | None, option("--metric", help="Only this metric.", autocompletion=complete_metrics)] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
    plot: Annotated[
        Path | None,
        option(
            "--plot", metavar="FILE", help="FILE.png, .svg or .pdf: a curve for each run, against NFE or images seen."
        ),
    ] = None,
    width: Annotated[str | None, options.WIDTH] = None,
    csv: Annotated[
        Path | None,
        option("--csv", metavar="FILE", help="Write the figures as CSV too; - writes them to stdout alone."),
    ] = None,
) -> None:
    """Compare evaluated runs: what differs in their specs, and their figures with intervals of the differences.

    Figures that were measured differently are refused.
    """
    from debiasctl.comparison.tables import compare as compare_runs
    from debiasctl.files import check_file
    from debiasctl.runs.store import find_run

    if as_json and str(csv) == "-":
        raise UsageError("--csv - and --json both write to stdout. Give one of them, or a file's name with --csv")
    if csv is not None and str(csv) != "-":
        check_file(csv, argument="csv")
    wide = options.parse_width(width, plotted=plot is not None)
    if plot is not None:
        from debiasctl.reporting.style import FORMATS

        check_file(plot, argument="plot", endings=FORMATS)
    found = [find_run(name) for name in runs]
    compared = compare_runs(found, metric=metric)
    if plot is not None:
        _plot(plot, found, metric=metric, width=wide)
    if csv is not None:
        _write_csv(csv, compared)
        if str(csv) == "-":
            return
    if as_json:
        print_json(compared.to_json())
    else:
        _print(compared)


def _plot(path: Path, runs: "list[Run]", *, metric: str | None, width: "Width") -> None:
    from debiasctl.comparison.curves import curve_records
    from debiasctl.evaluation.curves import plot_curves

    weightings = {run.name: str(run.spec().loss.weighting.ref) for run in runs}
    plot_curves(path, curve_records(runs, metric=metric), weightings=weightings, width=width)
    note(f"curves: {path}")


def _print(compared: "Comparison") -> None:
    print_comparison(compared)
    for text in compared.warnings:
        print_text(f"warning: {text}")
    for text in [*_missing(compared), *compared.notes]:
        note(f"note: {text}")
    if any(figure.floor_num not in (0, figure.measured.num) for figure in compared.figures):
        note("note: a floor of fewer images is biased upward; compare it with 'evaluate', column \"at floor's N\"")
    if any(interval is not None for figure in compared.figures for interval in figure.intervals):
        note(
            "note: differences with an interval are free of the bias in 1/N, unlike the runs' figures beside them. The "
            "intervals cover sampling alone: what infinitely many images of these very runs would give"
        )
    note(
        "* better than all others beyond chance, over this whole table. One training seed a run: train several before "
        "you believe a small difference"
    )


def _missing(compared: "Comparison") -> list[str]:
    """Why some differences have no interval: one sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for figure in compared.figures:
        for reason in filter(None, dict.fromkeys(figure.interval_reasons)):
            reasons.setdefault(reason, []).append(figure.metric)
    return [f"{', '.join(dict.fromkeys(names))}: no interval, {reason}" for reason, names in reasons.items()]


def _write_csv(path: Path, compared: "Comparison") -> None:
    import csv
    import io

    from debiasctl.files import write_bytes

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = ["sampler", "steps", "num", *CONDITIONS]
    writer.writerow(
        [
            "metric",
            *fields,
            "run",
            "checkpoint",
            "value",
            "difference",
            "corrected_difference",
            "low",
            "high",
            "best",
            "floor",
            "floor_num",
        ]
    )
    for figure in compared.figures:
        measured = figure.measured.to_json()
        for index, name in enumerate(compared.runs):
            interval = figure.intervals[index]
            writer.writerow(
                [
                    figure.metric,
                    *[measured.get(field) for field in fields],
                    name,
                    figure.checkpoints[index],
                    repr(figure.values[index]),
                    repr(figure.differences[index]),
                    *(
                        ("", "", "")
                        if interval is None
                        else map(repr, (interval.estimate, interval.low, interval.high))
                    ),
                    int(index == figure.best),
                    "" if figure.floor is None else repr(figure.floor),
                    figure.floor_num,
                ]
            )
    if str(path) == "-":
        print(text.getvalue(), end="")
    else:
        write_bytes(path, text.getvalue().encode())
