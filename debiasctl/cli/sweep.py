"""`debiasctl sweep`: one training in several arms and with several seeds, measured and compared."""

import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from debiasctl.cli import options
from debiasctl.cli.completion import complete_plugin, complete_setting, complete_sweep
from debiasctl.cli.forecast import name_trial
from debiasctl.cli.listed import left_open, listed
from debiasctl.cli.locations import data_location
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, say, show_log
from debiasctl.cli.sweep_request import RESUMED, asked, prepared, refuse_beside_resume, with_more_seeds
from debiasctl.cli.sweep_store import register
from debiasctl.cli.sweep_view import described, overview
from debiasctl.errors import ComparisonError, UsageError
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.comparison.study_record import Study
    from debiasctl.sweeps.answer import Answer
    from debiasctl.sweeps.conduct import Outcome, Way
    from debiasctl.sweeps.progress import RunProgress
    from debiasctl.sweeps.store import StoredSweep, Sweep

EXAMPLES = """[bold]Examples[/bold]

debiasctl sweep digits --weighting constant,p2,min-snr,debiased --seeds 3

debiasctl sweep digits --weighting constant,debiased --lr 1e-3,2e-3 --evaluate-steps 10,50 --name digits-lr

debiasctl sweep digits --weighting constant,debiased --until-decided --max-seeds 8

debiasctl sweep ./my-images --weighting constant,min-snr,debiased --trial

debiasctl sweep study.yaml

debiasctl sweep --resume digits --seeds 5"""

_MAX_SEEDS = 10


class _Group(TyperGroup):
    """Commands on sweeps; where the first word names none of them, the arguments are those of a sweep to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave the words of a command to it, and take all others."""
        if args and args[0] in self.commands:
            self._of_command = True
            try:
                return super().parse_args(ctx, args)
            finally:
                self._of_command = False
        words = [word for word in args[:2] if not word.startswith("-")]
        if len(words) == 2 and not ctx.resilient_parsing:
            hint = did_you_mean(words[0], self.commands)
            ctx.fail(f"{quoted(words[0])} is no command.{hint} Commands: {', '.join(self.commands)}")
        ctx.allow_extra_args, ctx.allow_interspersed_args = False, True
        return super().parse_args(ctx, args)

    def get_params(self, ctx: Any) -> list[Any]:
        """Those of a sweep to run; before a command's name there are none."""
        params = super().get_params(ctx)
        of_command = getattr(self, "_of_command", False)
        return [one for one in params if one.param_type_name != "argument"] if of_command else params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The ways to use it."""
        return ["[OPTIONS] DATASET|PATH|STUDY.yaml", "|", "COMMAND ..."]


app = typer.Typer(cls=_Group, invoke_without_command=True, no_args_is_help=True, epilog=EXAMPLES)


@app.callback()
def sweep(
    context: typer.Context,
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET|PATH|STUDY.yaml",
            help="A data set's name, the path of a folder or zip of images, or a study file.",
            autocompletion=complete_plugin("datasets"),
            show_default=False,
        ),
    ] = None,
    # those that stand for settings are read from the context
    weighting: Annotated[str | None, listed(options.WEIGHTING)] = None,
    normalize: Annotated[str | None, listed(options.NORMALIZE)] = None,
    backbone: Annotated[str | None, listed(options.BACKBONE)] = None,
    autoencoder: Annotated[str | None, listed(options.AUTOENCODER)] = None,
    prediction: Annotated[str | None, listed(options.PREDICTION)] = None,
    schedule: Annotated[str | None, listed(options.SCHEDULE)] = None,
    timesteps: Annotated[str | None, listed(options.TIMESTEPS)] = None,
    extension: Annotated[list[str] | None, listed(options.EXTENSION)] = None,
    steps: Annotated[str | None, listed(options.STEPS)] = None,
    images: Annotated[str | None, listed(options.IMAGES)] = None,
    image_size: Annotated[str | None, listed(options.IMAGE_SIZE)] = None,
    batch_size: Annotated[str | None, listed(options.BATCH_SIZE)] = None,
    lr: Annotated[str | None, listed(options.LR)] = None,
    checkpoint_every: Annotated[str | None, listed(options.CHECKPOINT_EVERY)] = None,
    evaluate_every: Annotated[str | None, listed(options.EVALUATE_EVERY)] = None,
    precision: Annotated[str | None, listed(options.PRECISION)] = None,
    accumulation: Annotated[str | None, listed(options.ACCUMULATION)] = None,
    deterministic: Annotated[bool | None, options.DETERMINISTIC] = None,
    spec: Annotated[Path | None, options.SPEC_FILE] = None,
    set_: Annotated[
        list[str] | None,
        option(
            "--set",
            metavar="SECTION.FIELD=VALUE,...",
            help="Values of one setting; may be given again.",
            autocompletion=complete_setting,
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        option(
            "--seeds",
            group=RESUMED,
            min=1,
            help="Runs of each arm, with seeds from 0 (default: 3).",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None,
        option("--name", help="The sweep's name (default: the study file's, or the data set's).", show_default=False),
    ] = None,
    evaluate_steps: Annotated[
        str | None,
        option("--evaluate-steps", help="Sampling steps, separated by commas (default: 50).", show_default=False),
    ] = None,
    num: Annotated[int | None, left_open(options.NUM, "1000")] = None,
    sampler: Annotated[str | None, left_open(options.SAMPLER, "ddim")] = None,
    features: Annotated[str | None, options.FEATURES] = None,
    metrics: Annotated[str | None, options.METRICS] = None,
    primary: Annotated[
        str | None,
        option(
            "--primary",
            metavar="METRIC[@STEPS]",
            help="The metric that decides (default: the data set's).",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        option(
            "--reference",
            metavar="ARM",
            help="The arm that others are compared with (default: the first).",
            show_default=False,
        ),
    ] = None,
    margin: Annotated[
        float | None,
        option(
            "--margin",
            help="Share of the reference's figure that counts as equivalent (default: 0.05).",
            show_default=False,
        ),
    ] = None,
    until_decided: Annotated[
        bool, option("--until-decided", help="Add seeds until the verdict is better, worse or equivalent.")
    ] = False,
    max_seeds: Annotated[
        int | None,
        option(
            "--max-seeds",
            min=2,
            help=f"Seeds at which --until-decided stops (default: {_MAX_SEEDS}).",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str | None,
        option(
            "--engine",
            group=RESUMED,
            help="What runs the jobs (default: local).",
            autocompletion=complete_plugin("engines"),
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        option(
            "--jobs",
            "-j",
            group=RESUMED,
            min=1,
            help="Runs at once (default: one a GPU, or a core).",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        option(
            "--threads",
            min=1,
            max=1024,
            help="CPU threads of each run; results depend on them by rounding.",
            show_default=False,
        ),
    ] = None,
    retries: Annotated[
        int, option("--retries", group=RESUMED, min=0, max=100, help="How often a run that failed is tried again.")
    ] = 2,
    device: Annotated[str, options.DEVICE] = "auto",
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    resume: Annotated[
        str | None,
        option(
            "--resume",
            metavar="SWEEP",
            help="Resume a sweep; with --seeds, add seeds.",
            autocompletion=complete_sweep,
            show_default=False,
        ),
    ] = None,
    trial: Annotated[
        bool,
        option("--trial", help="A small network and a budget of about half an hour for all runs on this machine."),
    ] = False,
    dry_run: Annotated[
        bool, option("--dry-run", group=RESUMED, help="Show what would be run, and run nothing.")
    ] = False,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Train one model in several arms and with several seeds, sample, measure and compare them.

    Any option of the command train takes a list; arms are all combinations. The same command again, or --resume,
    resumes; more seeds, arms and sampling steps can be added later.
    """
    if context.invoked_subcommand is not None:
        return
    from debiasctl.sweeps.conduct import Way
    from debiasctl.sweeps.store import find_sweep

    location = data_location(data_dir)
    way = Way(device=device, jobs=jobs, data_dir=location.data_dir, retries=retries)
    show_log()
    may_be_trial = False
    if resume is not None:
        refuse_beside_resume(context)
        found = find_sweep(resume)
        stored = with_more_seeds(found, seeds, engine)
    else:
        study, origin, common = asked(
            context, what, spec, set_ or [], (max_seeds or _MAX_SEEDS) if until_decided else None
        )
        if max_seeds is not None and not until_decided:
            raise UsageError("--max-seeds says when --until-decided stops. Give both, or --seeds alone")
        may_be_trial = origin.file is None and not study.trial
        found, stored = prepared(study, origin, common, location, way)
    if dry_run:
        from debiasctl.cli.sweep_plan import show_sweep_plan

        seconds = show_sweep_plan(found, stored, way, location, as_json=as_json)
        if may_be_trial:
            name_trial(context, "sweep", seconds=seconds)
        return
    _run(found, stored, way, as_json=as_json)


def _run(found: "Sweep", stored: "StoredSweep", way: "Way", *, as_json: bool) -> None:
    from debiasctl.api import num_cores
    from debiasctl.sweeps.conduct import Display, run_sweep
    from debiasctl.sweeps.store import create_sweep

    if not found.path.is_dir():
        create_sweep(found.name, stored)
    arms = ", ".join(arm.name for arm in stored.arms)
    note(
        f"sweep '{found.name}': {len(stored.arms) * len(stored.seeds)} runs, {len(stored.seeds)} of each arm ({arms}), "
        f"{stored.threads} thread{'s' if stored.threads > 1 else ''} a run"
    )
    at_once = way.jobs or max(1, num_cores() // stored.threads)
    with found.lock():
        if found.stored() != stored:
            found.write(stored)
        with overview(found.name, at_once=lambda: at_once) as show:
            commands = partial(_commands, decided=found.name if stored.looks else None)
            display = Display(commands, on_change=show, on_failure=_note_failure, on_answer=_note_answer)
            outcome = run_sweep(found, way, display)
    _report(found, outcome, as_json=as_json)


def _commands(study: "Study", runs: Sequence[str], *, decided: str | None) -> tuple[str, Callable[[str], str]]:
    """The command that makes a sweep's study again, and the one that draws a picture of it.

    `decided` names a sweep with looks: `compare` does not know of them, and its intervals are narrower.
    """
    words = ["debiasctl", "compare", *runs, "--primary", study.primary, "--reference", study.reference]
    command = shlex.join([*words, "--margin", f"{study.margin:g}"])

    def drawing(name: str) -> str:
        other = "  # of one look: narrower intervals" if decided is not None and name == "verdicts" else ""
        return f"{command} --picture {name} --plot {name}.svg{other}"

    return command if decided is None else f"debiasctl sweep --resume {decided}", drawing


def _note_answer(answer: "Answer", is_last: bool) -> None:
    if not is_last:
        note(f"so far: {answer.text}")


def _print_answer(answer: "Answer | None") -> None:
    """The verdicts where there are several seeds; the answer alone where there is one, of which it says nothing."""
    if answer is None or answer.study is None:
        return
    if all(len(arm.members) == 1 for arm in answer.study.arms):
        say(answer.text)
        return
    from debiasctl.cli.study_page import print_study
    from debiasctl.cli.verdict_table import Choice

    print_study(answer.study, Choice(), None)


def _note_failure(run: "RunProgress", reason: str, again: bool) -> None:
    note(f"run '{run.run.name}' failed: {reason}{'. It will be tried again' if again else ''}")


def _report(found: "Sweep", outcome: "Outcome", *, as_json: bool) -> None:
    answer = outcome.answer
    if as_json:
        print_json(
            {
                "name": found.name,
                "path": str(found.path),
                "answer": None if answer is None else answer.text,
                "report": str(found.report) if found.report.is_file() else None,
                "study": None if answer is None or answer.study is None else answer.study.to_json(),
                "runs": [described(one) for one in outcome.runs],
            }
        )
    else:
        _print_answer(answer)
        if found.report.is_file():
            say(found.report)
        other = "" if found.stored().looks is None else " (of one look: its intervals are narrower than the sweep's)"
        note(f"next: debiasctl compare '{found.name}-*'{other}")
    if answer is not None and answer.problem is not None:
        raise ComparisonError(f"the arms cannot be compared: {answer.problem}")
    if outcome.failures:
        for one in outcome.failures:
            note(f"failed: {one.run.name} ({one.reason})")
        note(
            f"{len(outcome.failures)} of {len(outcome.runs)} runs failed. Try them again: "
            f"debiasctl sweep --resume {found.name}"
        )
        sys.exit(1)


register(app)
