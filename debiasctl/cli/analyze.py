"""`debiasctl analyze`."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from debiasctl.cli import options
from debiasctl.cli.analysis_files import Outputs, parse_outputs
from debiasctl.cli.completion import complete_metrics, complete_plugin, complete_values
from debiasctl.cli.launch import launch_all, rank
from debiasctl.cli.listed import complete_list
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, show_log
from debiasctl.cli.repeat import given_words
from debiasctl.compute.memory import memory_reported
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from debiasctl.comparison.arms import Arms
    from debiasctl.runs.store import Run
    from debiasctl.specs.sections import RunSpec

EXAMPLES = """[bold]Examples[/bold]

debiasctl analyze digits-debiased-0

debiasctl analyze digits-constant-0 digits-debiased-0 --html analysis.html

debiasctl analyze 'digits-*' --only existence,impact --reference constant

debiasctl analyze digits-constant-0 --only reasons --counterfactual debiased,min-snr:gamma=5

debiasctl analyze 'digits-*' --validation --json"""

PARTS = ("existence", "impact", "reasons", "colour", "validation")
# options that figures depend on, which records keep for the commands of reports
_MEASURED_WITH = (
    "--num", "--seed", "--steps", "--trajectories", "--counterfactual", "--metric", "--sampler", "--checkpoint",
    "--weights", "--data-dir", "--data",
)  # fmt: skip
_LESS = "What was measured is kept. Choose a smaller `num`, or fewer parts: `only`"


def analyze(
    context: typer.Context,
    runs: Annotated[
        list[str] | None,
        options.run_argument("RUN...", "Runs, or patterns of their names such as 'digits-*' (quoted)."),
    ] = None,
    where: Annotated[list[str] | None, options.WHERE] = None,
    only: Annotated[
        str | None,
        option(
            "--only",
            metavar="PARTS",
            help="Only these parts, separated by commas: existence, impact, reasons, colour, validation.",
            autocompletion=complete_list(complete_values(*PARTS)),
            show_default=False,
        ),
    ] = None,
    validation: Annotated[
        bool,
        option(
            "--validation", help="Also: which weighted sum of held-out errors ranks these runs as their figures do."
        ),
    ] = False,
    metric: Annotated[
        str | None,
        option(
            "--metric",
            metavar="METRIC[@STEPS]",
            help="The figure of samples that validation compares with (default: the data set's).",
            autocompletion=complete_metrics,
            show_default=False,
        ),
    ] = None,
    counterfactual: Annotated[
        str | None,
        option(
            "--counterfactual",
            metavar="WEIGHTINGS",
            help="What these weightings, separated by commas, would have spent where, by this run's gradients.",
            autocompletion=complete_list(complete_plugin("weightings")),
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        option("--reference", metavar="ARM", help="The arm to compare the others with (default: the first)."),
    ] = None,
    num: Annotated[
        int | None,
        option("--num", "-n", min=2, help="Images a part measures on (default: each part's own).", show_default=False),
    ] = None,
    seed: Annotated[int, option("--seed", min=0, max=2**63 - 1, help="Seed of all noise, the same for all runs.")] = 0,
    steps: Annotated[
        int | None,
        option(
            "--steps",
            min=1,
            help="Sampling steps where a part takes one number of them (default: 50, or all of a shorter schedule).",
            show_default=False,
        ),
    ] = None,
    trajectories: Annotated[
        str | None,
        option(
            "--trajectories",
            metavar="STEPS",
            help="The numbers of sampling steps that impact compares, separated by commas (default: 2 to 1000).",
            show_default=False,
        ),
    ] = None,
    sampler: Annotated[str, options.SAMPLER] = "ddim",
    checkpoint: Annotated[str | None, options.CHECKPOINT] = None,
    weights: Annotated[str, options.WEIGHTS] = "ema",
    html: Annotated[Path | None, options.HTML] = None,
    open_page: Annotated[bool, options.OPEN_PAGE] = False,
    plot: Annotated[
        Path | None,
        option(
            "--plot",
            metavar="FILE|FOLDER",
            help="FILE.png, .svg or .pdf: the --picture; a folder: all pictures (SVG, PNG) and their data (JSON).",
        ),
    ] = None,
    picture: Annotated[
        str | None,
        option("--picture", metavar="NAME", help="One of the pictures: to --plot, or in the terminal."),
    ] = None,
    width: Annotated[str | None, options.WIDTH] = None,
    everything: Annotated[
        bool, option("--all", argument="everything", help="Show all figures, findings of all runs, and all curves.")
    ] = False,
    as_json: Annotated[bool, options.AS_JSON] = False,
    processes: Annotated[int, options.PROCESSES] = 1,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    data: Annotated[Path | None, options.DATA] = None,
    device: Annotated[str, options.DEVICE] = "auto",
) -> None:
    """Measure where the bias of trained models comes from, what it does to samples, and what would mend it.

    Every figure has an interval. What was measured is kept in the run's folder, where a repeated command, and the
    report of compare, find it; an interrupted command resumes where it stopped when it is given again.
    """
    from debiasctl.cli.locations import data_location, moved_spec
    from debiasctl.runs.selection import matching_runs

    if not runs and not where:
        raise UsageError("name one run or more: debiasctl analyze RUN")
    names = _parts(only)
    asked = parse_outputs(html, open_page, plot, picture, width, stdout_taken=as_json)
    compared, counterfactuals = _trajectories(trajectories), _weightings(counterfactual)
    _check_sampler(sampler)
    found = matching_runs(runs or [], options.parse_filter(where))
    location = data_location(data_dir)
    specs = [moved_spec(run.spec(), data, data_dir=data_dir) for run in found]
    pins = context.with_resource(ExitStack())  # training keeps what is measured until this command ends
    pinned = _pinned(found, checkpoint, pins)
    if rank() == 0:
        show_log()
    from debiasctl.analysis.parts.catalogue import PARTS as KNOWN
    from debiasctl.analysis.parts.part import Choices
    from debiasctl.comparison.analyses.conduct import Subjects, measure
    from debiasctl.comparison.analyses.plan import arms_in, chosen_parts, jobs_of, members_of
    from debiasctl.compute.device import make_accelerator
    from debiasctl.compute.processes import agreed
    from debiasctl.sampling import default_steps, make_request

    parts = chosen_parts(KNOWN, names, validation=validation)
    arms = arms_in(found, specs, reference=reference)
    requests = {
        run: make_request(
            run, spec, num=num or 2, num_steps=steps or default_steps(specs), sampler=sampler, seed=seed,
            checkpoint=str(step), weights=weights,
        )
        for run, spec, step in zip(found, specs, pinned, strict=True)
    }  # fmt: skip
    if processes > 1:
        launch_all(processes, device=device)
    place = make_accelerator(device).device
    requests = agreed(requests)  # a run in training may write a checkpoint at any moment
    _say_standing(requests, dict(zip(found, specs, strict=True)), arms)
    jobs, skipped = jobs_of(parts, members_of(arms, dict(zip(found, specs, strict=True))))
    from debiasctl.cli.progress import analysis_progress

    with analysis_progress() as show, memory_reported(EvaluationError, "in the analysis", advice=_LESS):
        analysis = measure(
            parts, jobs, arms, Subjects(requests, location, place),
            Choices(num, seed, compared, counterfactuals, metric),
            asked=names is not None, options=given_words(context, only=_MEASURED_WITH), skipped=skipped, on_job=show,
        )  # fmt: skip
    if rank() > 0:
        return
    weightings = {arm.name: specs[found.index(arm.runs[0])].known_weighting or arm.name for arm in arms.arms}
    outputs = Outputs(asked, analysis, weightings, sys.argv[1:])
    if outputs.write():
        return
    if as_json:
        from debiasctl.comparison.analyses.printed import analyzed

        print_json(analyzed(analysis))
        return
    from debiasctl.cli.analysis_page import print_analysis

    print_analysis(analysis, outputs.pictures, everything=everything)


def _parts(text: str | None) -> list[str] | None:
    """The names of `--only`, at least one."""
    if text is None:
        return None
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise UsageError(f"--only {quoted(text)} names no part. Choose from {', '.join(PARTS)}")
    return names


def _trajectories(text: str | None) -> tuple[int, ...] | None:
    return None if text is None else tuple(options.parse_steps(text, option="--trajectories"))


def _weightings(text: str | None) -> tuple[str, ...]:
    """The references of `--counterfactual`, each of a weighting that exists."""
    from debiasctl import registry
    from debiasctl.registry.refs import split_list

    found = [] if text is None else [part.strip() for part in split_list(text, text)]
    for reference in found:
        registry.find("weightings", registry.as_ref(reference).name)
    return tuple(dict.fromkeys(found))


def _check_sampler(sampler: str) -> None:
    """Refuse, before torch is imported, a sampler that does not exist."""
    from debiasctl import registry

    registry.find("samplers", registry.as_ref(sampler).name)


def _pinned(runs: "Sequence[Run]", checkpoint: str | None, pins: ExitStack) -> list[int]:
    """Each run's checkpoint; one that is not there is refused before torch takes its time."""
    from debiasctl.cli.standing import pin_trained

    return [pin_trained(run, checkpoint, pins) for run in runs]


def _say_standing(requests: "Mapping[Run, object]", specs: "Mapping[Run, RunSpec]", arms: "Arms") -> None:
    """Notes on runs that are still in training, or do not count."""
    from debiasctl.cli.standing import note_standing

    counted = {run for arm in arms.arms for run in arm.runs}
    for run, request in requests.items():
        if run in counted:
            note_standing(run, specs[run], request.step)  # type: ignore[attr-defined]
    if rank() == 0:
        for text in arms.warnings:
            note(f"note: {text}")
