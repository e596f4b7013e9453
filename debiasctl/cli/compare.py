"""`debiasctl compare`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from debiasctl.cli import options
from debiasctl.cli.compare_report import PICTURES, parse_drawn
from debiasctl.cli.completion import complete_metrics, complete_plugin, complete_values
from debiasctl.cli.external_arms import External
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json
from debiasctl.cli.verdict_table import Choice, parse_choice
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.comparison.study_record import Study
    from debiasctl.comparison.tables import Comparison
    from debiasctl.reporting.style import Width
    from debiasctl.runs.store import Run

_FEW = 24  # runs whose records are kept for the table of runs

EXAMPLES = """[bold]Examples[/bold]

debiasctl compare 'digits-*' --primary fd_local@50

debiasctl compare --where 'dataset=digits and lr=0.001' --reference constant

debiasctl compare digits-debiased-0 --by weights

debiasctl compare --arm ours='out/ours-seed*' --arm theirs='out/theirs-seed*' --against digits

debiasctl compare 'digits-*' --latex table.tex --columns metric,arm,figure,ratio,verdict"""


def compare(
    runs: Annotated[
        list[str] | None,
        options.run_argument("RUN...", "Runs, or patterns of their names such as 'digits-*' (quoted)."),
    ] = None,
    where: Annotated[list[str] | None, options.WHERE] = None,
    arm: Annotated[
        list[str] | None,
        option(
            "--arm",
            metavar="NAME=PATTERN",
            help="An arm of images made elsewhere: folders, .npz, .zip or .tar, one a seed. Give several.",
        ),
    ] = None,
    against: Annotated[
        str | None,
        option(
            "--against",
            help="What to measure the images of --arm against: a data set, a folder, .zip, .tar or .npz.",
            autocompletion=complete_plugin("datasets"),
        ),
    ] = None,
    features: Annotated[
        str | None,
        option(
            "--features",
            help="Feature extractor for the images of --arm (default: as evaluate chooses).",
            autocompletion=complete_plugin("features"),
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        option(
            "--figures",
            metavar="FILE.csv",
            help="Figures made elsewhere: a CSV with the columns arm, seed, metric, value and perhaps steps, better.",
        ),
    ] = None,
    by: Annotated[
        list[str] | None,
        option("--by", metavar="AXIS", help="Compare along steps, weights, num, sampler, features, ... (several)."),
    ] = None,
    metric: Annotated[str | None, option("--metric", help="Only this metric.", autocompletion=complete_metrics)] = None,
    primary: Annotated[
        str | None,
        option(
            "--primary",
            metavar="METRIC[@STEPS]",
            help="The metric that decides, declared before you look (default: the data set's).",
            autocompletion=complete_metrics,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        option("--reference", metavar="ARM", help="The arm to judge the others against (default: the first)."),
    ] = None,
    margin: Annotated[
        float, option("--margin", min=0.0, max=1.0, help="Equivalent: within this share of the reference's figure.")
    ] = 0.05,
    paired: Annotated[
        bool | None,
        option(
            "--paired/--unpaired",
            help="Pair the arms' seeds, or do not (default: paired from five complete pairs on).",
            show_default=False,
        ),
    ] = None,
    block: Annotated[
        list[str] | None,
        option(
            "--block",
            argument="blocks",
            metavar="SETTING",
            help="A setting crossed with what is compared, such as lr: a verdict for each value, and one over all.",
        ),
    ] = None,
    borrowed: Annotated[
        bool, option("--borrowed", help="Borrow strength for the seed variance from the other metrics.")
    ] = False,
    level: Annotated[
        list[str] | None,
        option(
            "--level",
            metavar="METRIC[@STEPS]=VALUE",
            help="A level declared beforehand: how many images or steps each arm needs to reach it. Give several.",
        ),
    ] = None,
    skip_damaged: Annotated[
        bool, option("--skip-damaged", help="Leave out runs and records that are damaged or missing, naming each.")
    ] = False,
    everything: Annotated[
        bool, option("--all", argument="everything", help="Show all rows and columns, not only what differs.")
    ] = False,
    columns: Annotated[
        str | None, option("--columns", metavar="NAMES", help="Only these columns, separated by commas.")
    ] = None,
    sort: Annotated[
        str | None, option("--sort", metavar="COLUMN", help="Order rows by this column; -COLUMN: descending.")
    ] = None,
    top: Annotated[int | None, option("--top", min=1, metavar="N", help="Only the first N rows.")] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
    html: Annotated[Path | None, options.HTML] = None,
    open_page: Annotated[bool, options.OPEN_PAGE] = False,
    plot: Annotated[
        Path | None,
        option(
            "--plot",
            metavar="FILE",
            help="FILE.png, .svg or .pdf: a curve for each arm, with a band over its seeds; or the --picture.",
        ),
    ] = None,
    picture: Annotated[
        str | None,
        option(
            "--picture",
            metavar="NAME",
            help="verdicts, training, steps, samples, colours, heldout or weights: to --plot, or in the terminal.",
            autocompletion=complete_values(*PICTURES),
        ),
    ] = None,
    width: Annotated[str | None, options.WIDTH] = None,
    csv: Annotated[
        Path | None, option("--csv", metavar="FILE", help="Write the table as CSV; - writes it to stdout alone.")
    ] = None,
    md: Annotated[
        Path | None, option("--md", metavar="FILE", help="Write the table as Markdown; - writes it to stdout alone.")
    ] = None,
    latex: Annotated[
        Path | None, option("--latex", metavar="FILE", help="Write the table for a paper; - writes it to stdout alone.")
    ] = None,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    device: Annotated[str, options.DEVICE] = "auto",
) -> None:
    """Compare arms: runs that differ in the seed alone, and images or figures made elsewhere.

    A verdict is over training seeds: better, worse, equivalent or inconclusive, with an interval and the number of
    seeds that would settle it. With one seed an arm there is none. Figures that were measured differently are refused.
    """
    from debiasctl.comparison.efficiency import parse_levels
    from debiasctl.comparison.evaluations import Reader
    from debiasctl.comparison.printed import compared, one_seed_table
    from debiasctl.comparison.study import study_of

    files = {"csv": csv, "md": md, "latex": latex}
    _check_outputs(files, as_json=as_json)
    _check_apart({**files, "html": html, "plot": plot}, figures)
    choice = parse_choice(columns, sort, everything=everything, top=top)
    levels = parse_levels(level or [])
    taken = as_json or any(str(path) == "-" for path in files.values())
    drawn = parse_drawn(html, open_page, plot, picture, width, skip_damaged=skip_damaged, stdout_taken=taken)
    others = External(arm or [], against, features, figures, data_dir, device)
    found = _runs(runs or [], where, others=bool(arm or figures))
    others.check(num_runs=len(found), by=bool(by))
    if len(found) == 1 and not (arm or figures or by):
        raise UsageError(
            "one run alone is nothing to compare: name two or more different runs: debiasctl compare RUN RUN; or an "
            "axis along which it was measured: debiasctl compare RUN --by weights"
        )
    reader = Reader() if len(found) <= _FEW else None  # thousands of records are not kept
    study = study_of(
        found,
        external=others.read(metric=metric),
        by=[part for text in by or [] for part in text.split(",")],
        metric=metric,
        primary=primary,
        reference=reference,
        margin=margin,
        paired=_pairing(paired),
        borrowed=borrowed,
        blocks=block or [],
        levels=levels,
        skip_damaged=skip_damaged,
        reader=reader,
        with_curves=as_json or drawn.anything,
    )
    table = one_seed_table(study, found, metric=metric, reader=reader)
    if plot is not None and picture is None and table is not None:  # a curve for each run
        _plot(plot, found, metric=metric, width=drawn.width)
        drawn = replace(drawn, plot=None)
    if drawn.write(study, found) | _write(files, study, choice, table):
        return
    if as_json:
        print_json(compared(study, table, found))
        return
    from debiasctl.cli.study_page import print_study

    print_study(study, choice, table)


def _check_outputs(files: dict[str, Path | None], *, as_json: bool) -> None:
    """Refuse files that cannot be written, and two results on stdout."""
    from debiasctl.files import check_file

    to_stdout = [f"--{name} -" for name, path in files.items() if str(path) == "-"] + ["--json"] * as_json
    if len(to_stdout) > 1:
        raise UsageError(
            f"{' and '.join(to_stdout)} {'both' if len(to_stdout) == 2 else 'all'} write to stdout. Give one of them, "
            f"or a file's name with {to_stdout[0].partition(' ')[0]}"
        )
    for name, path in files.items():
        if path is not None and str(path) != "-":
            check_file(path, argument=name)


def _check_apart(files: dict[str, Path | None], figures: Path | None) -> None:
    """Refuse a file that is to be written twice, or that holds the figures that are compared."""
    taken = {} if figures is None else {figures.resolve(): "--figures"}
    for name, path in files.items():
        if path is None or str(path) == "-":
            continue
        other = taken.setdefault(path.resolve(), f"--{name}")
        if other != f"--{name}":
            raise UsageError(f"{other} and --{name} name one file, {path}. Give another name to --{name}")


def _runs(names: list[str], where: list[str] | None, *, others: bool) -> "list[Run]":
    """The runs that were named, or that match."""
    from debiasctl.runs.selection import matching_runs

    if not names and not where:
        if others:
            return []
        raise UsageError("name two or more different runs: debiasctl compare RUN RUN")
    return matching_runs(names, options.parse_filter(where))


def _pairing(paired: bool | None) -> Literal["auto", "yes", "no"]:
    return "auto" if paired is None else "yes" if paired else "no"


def _plot(path: Path, runs: "list[Run]", *, metric: str | None, width: "Width") -> None:
    from debiasctl.comparison.curves import curve_records
    from debiasctl.evaluation.curves import plot_curves

    weightings = {run.name: run.spec().known_weighting or run.name for run in runs}
    plot_curves(path, curve_records(runs, metric=metric), weightings=weightings, width=width)
    note(f"curves: {path}")


def _write(files: dict[str, Path | None], study: "Study", choice: Choice, table: "Comparison | None") -> bool:
    """Write the tables that were asked for; whether one of them went to stdout."""
    from debiasctl.cli.one_seed import figures_csv
    from debiasctl.cli.study_files import csv_text, latex_text, markdown_text, write_text

    makers = {
        "csv": lambda: csv_text(study, choice) if table is None else figures_csv(table),
        "md": lambda: markdown_text(study, choice),
        "latex": lambda: latex_text(study, choice),
    }
    for name, path in files.items():
        if path is not None:
            write_text(path, makers[name]())
    return any(str(path) == "-" for path in files.values())
