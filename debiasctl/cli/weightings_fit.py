"""`debiasctl weightings fit`: a weighting, or a distribution of t, by a published rule from runs' held-out errors."""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_plugin, complete_values
from debiasctl.cli.messages import with_options
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_table, print_text, say, show_log
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.analysis.fit_weighting import Fit
    from debiasctl.analysis.heldout_curve import Heldout
    from debiasctl.analysis.optimal_error import OptimalError
    from debiasctl.runs.store import Run
    from debiasctl.specs.sections import RunSpec

EXAMPLES = """[bold]Examples[/bold]

debiasctl weightings fit digits-debiased-0 --rule uncertainty

debiasctl weightings fit 'digits-debiased-*' --rule optimal-loss --out optimal.csv --snippet optimal.py

debiasctl weightings fit digits-debiased-0 --rule loss-second-moment --weighting min-snr --json"""

_RULES = ("uncertainty", "optimal-loss", "loss-second-moment", "loss-variance")
_GRID = 0.5  # of log SNR between the levels at which the least error is estimated
_NUM, _MOST = 256, 4096


def fit(
    context: typer.Context,
    runs: Annotated[
        list[str],
        options.run_argument(metavar="RUN...", help="Runs of one arm, by names or patterns such as 'digits-*'."),
    ],
    rule: Annotated[
        str,
        option(
            "--rule",
            help="uncertainty, optimal-loss (a weighting); loss-second-moment, loss-variance (a distribution of t).",
            autocompletion=complete_values(*_RULES),
        ),
    ],
    out: Annotated[
        Path | None,
        option("--out", "-o", metavar="FILE.csv", help="Table to write (default: RULE.csv).", show_default=False),
    ] = None,
    snippet: Annotated[
        Path | None,
        option("--snippet", metavar="FILE.py", help="Also write a Python module, which needs numpy alone."),
    ] = None,
    weighting: Annotated[
        str | None,
        option(
            "--weighting",
            argument="fitted_weighting",
            help="Of a distribution of t: the weighting whose loss is drawn (default: the runs').",
            autocompletion=complete_plugin("weightings"),
            show_default=False,
        ),
    ] = None,
    num: Annotated[
        int | None,
        option(
            "--num", min=2, max=_MOST, help=f"optimal-loss: images of each split (default: {_NUM}).", show_default=False
        ),
    ] = None,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    data: Annotated[Path | None, options.DATA] = None,
    device: Annotated[str, options.DEVICE] = "auto",
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Fit a weighting, or a distribution of t, to runs' held-out errors by a published rule.

    uncertainty weights by the reciprocal of the expected error (EDM2); optimal-loss by the reciprocal of the least
    error that a network can reach, from the training images (2506.13763); loss-second-moment (2102.09672) and
    loss-variance draw t by the root second moment, or the standard deviation, of the loss. Writes a table for
    --weighting table or --timesteps table.
    """
    from debiasctl.files import atomic_file, check_file
    from debiasctl.runs.selection import matching_runs

    if rule not in _RULES:
        _refuse_rule(rule)
    draws = rule.startswith("loss-")
    _check_options(context, rule, draws=draws)
    target = out or Path(f"{rule}.csv")
    check_file(target, argument="out", endings=(".csv",))
    if snippet is not None:
        check_file(snippet, argument="snippet", endings=(".py",))
    found = matching_runs(runs)
    specs = [run.spec() for run in found]
    show_log()
    from debiasctl import __version__
    from debiasctl.analysis.fit_files import module_text, table_text
    from debiasctl.analysis.fit_weighting import fit as fit_rule
    from debiasctl.analysis.heldout_curve import pooled

    found, notes = _counted(found, specs, draws=draws and weighting is None)
    specs = [run.spec() for run in found]
    heldout = pooled(found, specs)
    optimum = (
        []
        if rule != "optimal-loss"
        else _optimum(found[0], heldout, num or _NUM, data_dir=data_dir, data=data, device=device)
    )
    fitted = fit_rule(
        rule,
        heldout,
        weighting=_weighting(specs[0], weighting) if draws else None,
        progress=min(1.0, heldout.steps[0] / specs[0].training.steps),
        optimum=optimum,
    )
    with ExitStack() as stack:  # both files or none
        stack.enter_context(atomic_file(target)).write(table_text(fitted).encode())
        if snippet is not None:
            text = module_text(fitted, runs=_described(heldout), version=__version__)
            stack.enter_context(atomic_file(snippet)).write(text.encode())
    following = _next_command(found[0], heldout, fitted, target, weighting=weighting)
    notes = [*notes, *fitted.notes]
    if as_json:
        files = {"out": str(target), "snippet": None if snippet is None else str(snippet)}
        print_json(_as_json(heldout, fitted, optimum) | files | {"notes": notes, "next": following})
        return
    _print(heldout, fitted, optimum)
    for text in notes:
        note(f"note: {with_options(text)}")
    say(target)
    if snippet is not None:
        say(snippet)
    if following is not None:
        note(f"next: {following}")


def _refuse_rule(rule: str) -> None:
    from debiasctl.wording import did_you_mean, quoted

    raise UsageError(
        f"--rule {quoted(rule)}: there is no such rule.{did_you_mean(rule, _RULES)} Known: {', '.join(_RULES)}"
    )


def _check_options(context: typer.Context, rule: str, *, draws: bool) -> None:
    """Refuse options that would have no effect with the rule."""
    useless = {"--num", "--data-dir", "--data", "--device"} if rule != "optimal-loss" else set()
    useless |= set() if draws else {"--weighting"}
    for name, _ in options.given(context):
        if name in useless:
            ways = "loss-second-moment or loss-variance" if name == "--weighting" else "optimal-loss"
            raise UsageError(f"{name} has no effect with --rule {rule}. Leave it out, or use --rule {ways}")


def _counted(runs: "Sequence[Run]", specs: "Sequence[RunSpec]", *, draws: bool) -> "tuple[list[Run], list[str]]":
    """The runs that count, each seed of an arm once; and what to know of runs that differ in more than the seed.

    Raises:
        UsageError: if they differ in the loss whose draws are to be fitted.
    """
    from debiasctl.comparison.arms import arms_of

    arms = arms_of(runs, specs)
    notes = list(arms.warnings)
    if len(arms.arms) > 1:
        differing = ", ".join(arms.differing)
        if draws and any(name.startswith("loss.") for name in arms.differing):
            raise UsageError(
                f"the runs differ in {differing}, so that they have no loss in common. Fit each by itself, or name the "
                "weighting whose loss is drawn: --weighting debiased"
            )
        notes.append(
            f"the runs differ in more than the seed ({differing}): what is fitted is the mean of different models' "
            "errors"
        )
    kept = {run.path for arm in arms.arms for run in arm.runs}
    return [run for run in runs if run.path in kept], notes


def _weighting(spec: "RunSpec", reference: str | None) -> Any:
    from debiasctl import registry

    return spec.loss.weighting.create("weightings") if reference is None else registry.create("weightings", reference)


def _optimum(
    run: "Run", heldout: "Heldout", num: int, *, data_dir: Path | None, data: Path | None, device: str
) -> "list[OptimalError]":
    """The least errors over the schedule's log-SNRs, from the first run's training images."""
    import numpy as np

    from debiasctl import paths
    from debiasctl.analysis.optimal_error import optimal_errors
    from debiasctl.cli.locations import data_location, moved_spec
    from debiasctl.cli.progress import counting_progress
    from debiasctl.compute.device import make_accelerator
    from debiasctl.data.load import load_data
    from debiasctl.models.latent_space import latent_space, trained_data

    spec = moved_spec(heldout.spec, data, data_dir=data_dir)
    if spec.latents is not None and spec.data.horizontal_flip:
        raise UsageError(
            f"run '{run.name}' was trained on latents of mirrored images too, of which the least error is not "
            "estimated. Choose another `rule`"
        )
    place = make_accelerator(device).device
    space = latent_space(run, spec, device=place)
    loaded = load_data(spec, data_location(data_dir))
    if space is not None:
        loaded = trained_data(spec, loaded, space, cache_dir=paths.cache_dir())
    low, high = heldout.span
    levels = np.linspace(low, high, max(2, 1 + round((high - low) / _GRID))).tolist()
    with counting_progress("least error") as show:
        return optimal_errors(
            loaded,
            levels,
            num=num,
            mirrored=spec.data.horizontal_flip,
            conditional=bool(spec.model.conditional),
            device=place,
            on_progress=show,
        )


def _next_command(run: "Run", heldout: "Heldout", fitted: "Fit", path: Path, *, weighting: str | None) -> str | None:
    """How to train as the first run did, but with what was fitted, after its objective has been built; None if not all
    of the schedule is covered.
    """
    from debiasctl.models.objective import build_objective
    from debiasctl.registry import as_ref
    from debiasctl.registry.choices import complete
    from debiasctl.registry.refs import PluginRef
    from debiasctl.runs.parts import SPEC

    if not heldout.is_whole:
        return None
    spec, draws = heldout.spec, fitted.column == "factor"
    changes: dict[str, Any] = {}
    if draws:
        ref = PluginRef("table", {"path": str(path), **_base(spec)})
        changes["timesteps"] = complete("timesteps", ref)
        if weighting is not None:
            changes["weighting"] = complete("weightings", as_ref(weighting))
    else:
        ref = PluginRef("table", {"path": str(path), "space": "v"})
        changes["weighting"] = complete("weightings", ref)
    loss = spec.loss.model_copy(update=changes)
    build_objective(spec.model_copy(update={"loss": loss})).tables()
    words = ["debiasctl", "train", "--spec", str(run.path / SPEC)]
    words += ["--timesteps", str(ref)] if draws else ["--weighting", str(ref)]
    words += ["--weighting", weighting] if draws and weighting is not None else []
    return shlex.join([*words, "--name", _free_name(f"{run.name}-{fitted.rule}")])


def _base(spec: "RunSpec") -> dict[str, Any]:
    """The distribution under which the runs' loss is meant, as an option of the table; nothing where it is uniform."""
    from debiasctl.registry.refs import PluginRef

    chosen = spec.loss.timesteps
    stored = chosen.options.get("base") if chosen.create("timesteps").corrected else chosen.ref
    base = PluginRef(stored["name"], stored["options"]) if isinstance(stored, dict) else stored
    return {} if base is None or str(base) == "uniform" else {"base": str(base)}


def _free_name(name: str) -> str:
    from debiasctl.runs.store import run_names

    taken, number = set(run_names()), 2
    found = name
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found


def _described(heldout: "Heldout") -> list[str]:
    return [f"{name} at step {step}" for name, step in zip(heldout.runs, heldout.steps, strict=True)]


def _as_json(heldout: "Heldout", fitted: "Fit", optimum: "Sequence[OptimalError]") -> dict[str, Any]:
    from debiasctl.analysis.fit_weighting import RULES

    rule = RULES[fitted.rule]
    return {
        "rule": fitted.rule,
        "source": rule.source,
        "fitted": rule.column,
        "unit": "v" if rule.column == "weight" else None,
        "runs": [{"name": name, "step": step} for name, step in zip(heldout.runs, heldout.steps, strict=True)],
        "weights": heldout.weights,
        "snr": [float(fitted.snr[0]), float(fitted.snr[-1])],
        "bins": [
            {
                "log_snr": list(one.bin.log_snr),
                "at": one.bin.at,
                "num": one.bin.num,
                "error": one.bin.error,
                "error_se": one.bin.se,
                "value": one.value,
                "value_se": one.se,
            }
            for one in fitted.bins
        ],
        "optimum": [vars(one) for one in optimum],
    }


def _print(heldout: "Heldout", fitted: "Fit", optimum: "Sequence[OptimalError]") -> None:
    import numpy as np

    from debiasctl.analysis.fit_weighting import RULES

    rule, several = RULES[fitted.rule], len(heldout.runs) > 1
    print_text(f"{fitted.rule} ({rule.source}): {rule.says}")
    print_text(
        f"held-out errors of run{'s' * several} {', '.join(_described(heldout))}, {heldout.weights} weights, "
        f"{min(one.bin.num for one in fitted.bins)} images{' (the same ones in each run)' * several}"
    )
    least = [one for one in optimum if not one.is_remembered]
    heads = ["mean log SNR", "error of v", "± s.e.", *(["least error"] if least else [])]
    heads += ["weight on v" if rule.column == "weight" else "factor", "± s.e."]
    rows = []
    for one in fitted.bins:
        cells = [f"{one.bin.at:.2f}", f"{one.bin.error:.4g}", "-" if one.bin.se is None else f"{one.bin.se:.2g}"]
        if least:
            at, values = [each.log_snr for each in least], [each.train for each in least]
            cells.append(f"{np.interp(one.bin.at, at, values):.4g}" if one.bin.at <= at[-1] else "-")
        rows.append([*cells, f"{one.value:.4g}", "-" if one.se is None else f"{one.se:.2g}"])
    print_table(heads, rows)
