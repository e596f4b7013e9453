"""`debiasctl weightings identify`: names the weighting that a trainer's function, or a table, computes."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_values
from debiasctl.cli.messages import with_options
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_table, print_text
from debiasctl.errors import UsageError
from debiasctl.wording import quoted

if TYPE_CHECKING:
    from debiasctl.analysis.identify import Identification

_LEVELS = ("snr", "timesteps", "sigma", "s", "log_snr", "alphas_cumprod", "loss", "scheduler")

EXAMPLES = """[bold]Examples[/bold]

debiasctl weightings identify trainer.py:snr_weight --prediction v

debiasctl weightings identify trainer.py:apply_snr_weight --given gamma=5 --prediction eps

debiasctl weightings identify weights.csv --schedule cosine"""


def identify(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE:FUNCTION|FILE.csv",
            help="A Python function that computes weights, or a table with the columns weight and t, snr, log_snr, "
            "sigma or s.",
            show_default=False,
        ),
    ],
    prediction: Annotated[
        str | None,
        option(
            "--prediction",
            help="What the network predicts, on whose error this is the weight (default: every reading that agrees).",
            autocompletion=options.complete_choices("model.prediction"),
            show_default=False,
        ),
    ] = None,
    argument: Annotated[
        str | None,
        option(
            "--argument",
            help="What the function takes: snr, timesteps, sigma, s, log_snr, alphas_cumprod, loss or scheduler; "
            "several, in the order of its parameters, are separated by commas (default: what their names say).",
            autocompletion=complete_values(*_LEVELS),
            show_default=False,
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        option(
            "--given",
            metavar="NAME=VALUE",
            help="The value of another parameter: gamma=5, or args.gamma=5 for an attribute; for each parameter once.",
            show_default=False,
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        option(
            "--schedule",
            help="Noise schedule of the levels (default: linear; edm for sigma, flow for s).",
            autocompletion=options.complete_plugin("schedules"),
            show_default=False,
        ),
    ] = None,
    zero_terminal_snr: Annotated[
        bool, option("--zero-terminal-snr", help="The schedule is rescaled to an SNR of 0 at its end.")
    ] = False,
    out: Annotated[
        Path | None,
        option("--out", "-o", metavar="FILE", help="Write the weights as a table to train with.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None,
        option(
            "--plot",
            metavar="FILE",
            help="Draw the weights on the known ones, and their ratio: .png, .svg or .pdf.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Name the weighting that a trainer's function computes: its scheme, options, unit, clamp and normalisation.

    The function is called at the noise levels of a schedule, in this process, as Python itself would run the file; only
    name code that you trust. A table is read, and nothing is run. What agrees with no known scheme is not named.
    """
    from debiasctl.analysis.identify import source

    levels = _schedule(schedule, zero_terminal_snr)
    _check_files(out, plot)
    if source.is_csv(what):
        if given or argument:
            raise UsageError("--argument and --given are for a function, and a table is read as its columns' names say")
        from debiasctl.analysis.identify import identify_table

        found = identify_table(what, prediction, schedule=levels)
    else:
        values = _given(given or [])
        path, name = source.split(what)
        _check_names(prediction, levels)
        note(f"note: {path} is run in this process, with all that it imports. Only name code that you trust")
        from debiasctl.analysis.identify import identify as identified

        with contextlib.chdir("."):  # the user's code may go elsewhere, and `out` is meant from here
            with source.silenced() as printed:
                function = source.load(path, name)
            if printed():
                note(f"note: {path.name} printed while it was imported: {printed()}")
            found = identified(function, prediction, argument=argument, schedule=levels, given=values)
    written = None
    if out is not None:
        from debiasctl.analysis.identify import write_weights

        written = write_weights(found, out)
        note(f"note: the weights are in {out}")
    if plot is not None:
        found.plot(plot)
        note(f"note: the picture is in {plot}")
    if as_json:
        files = {"table": None if out is None else str(out), "plot": None if plot is None else str(plot)}
        print_json({**_typed(found.to_dict()), **files, "table_flags": written})
    else:
        _print(found, written)


def _check_names(prediction: str | None, schedule: str | None) -> None:
    """Refuse a wrong name before the user's code is run."""
    from debiasctl import registry
    from debiasctl.analysis.identify.identification import check_prediction

    check_prediction(prediction)
    if schedule is not None:
        registry.resolve("schedules", schedule)


def _check_files(out: Path | None, plot: Path | None) -> None:
    """Refuse what could not be written before the user's code is run."""
    from debiasctl.files import check_file
    from debiasctl.reporting.style import FORMATS

    for path, argument, endings in ((out, "out", (".csv",)), (plot, "plot", FORMATS)):
        if path is not None:
            check_file(path, argument=argument, endings=endings)


def _typed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with options in place of the settings that its sentences name."""
    return {**record, **{key: [with_options(one) for one in record[key]] for key in ("findings", "notes")}}


def _schedule(schedule: str | None, zero_terminal_snr: bool) -> str | None:
    if not zero_terminal_snr:
        return schedule
    from debiasctl.analysis.identify.levels import with_rescaling

    return with_rescaling(schedule or "linear")


def _given(texts: list[str]) -> dict[str, Any]:
    """Values of parameters by name: numbers, true, false, none, or text."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not all(part.isidentifier() for part in name.strip().split(".")):
            raise UsageError(f"--given {quoted(text)}: write NAME=VALUE, for example gamma=5")
        found[name.strip()] = _value(value.strip())
    return found


def _value(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _print(found: "Identification", written: str | None) -> None:
    print_text(found.verdict)
    for finding in found.findings:
        print_text(f"- {with_options(finding)}")
    rows = [
        [one.prediction, one.weighting, "; ".join(one.changes) or "as published", one.misfit] for one in found.readings
    ]
    if rows:
        print_table(["predicts", "weighting", "how it is used", "agreement"], rows, keys=2, prose=True)
    for one in found.readings:
        if one.equal:
            print_text(f"the same on {one.prediction}: {'; '.join(one.equal)}")
        if one.flags is not None:
            print_text(f"trains {'the same' if one.found.grade == 0 else 'this scheme'}: {one.flags}")
    if written is not None:
        print_text(f"trains with the table: {written}")
    for text in found.notes:
        note(f"note: {text}")
    note(f"note: taken at {found.levels} levels of the schedule {found.schedule}, {found.taken}")
