"""`debiasctl evaluate`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_plugin
from debiasctl.cli.evaluation_table import print_records
from debiasctl.cli.launch import launch_all, rank
from debiasctl.cli.options import SAMPLING, option, parse_batch_size, parse_steps
from debiasctl.cli.output import note, print_json, show_log
from debiasctl.compute.memory import memory_reported
from debiasctl.compute.signals import number_of
from debiasctl.errors import EvaluationError, Interrupted, UsageError
from debiasctl.files import check_place
from debiasctl.reading.user_text import whole_number
from debiasctl.wording import quoted

if TYPE_CHECKING:
    from debiasctl.api import DataLocation
    from debiasctl.evaluation.choices import Choices
    from debiasctl.evaluation.record import EvaluationRecord
    from debiasctl.runs.store import Run
    from debiasctl.specs.sections import RunSpec

_LESS = "What was drawn is kept. Choose a smaller `batch_size` or `num`, or other `features` or `metrics`"

EXAMPLES = """[bold]Examples[/bold]

debiasctl evaluate digits-minsnr

debiasctl evaluate digits-minsnr --steps 10,20,50 --num 2000 --json

debiasctl evaluate digits-minsnr --checkpoints all --plot curve.png

debiasctl evaluate --samples images/ --reference cifar10 --features inception"""


def evaluate(
    context: typer.Context,
    run: Annotated[str | None, options.run_argument("RUN", "The run.")] = None,
    samples: Annotated[
        Path | None, option("--samples", help="Measure these images, a folder, .zip, .tar or .npz, instead of a run's.")
    ] = None,
    reference: Annotated[
        str | None,
        option(
            "--reference",
            help="What to measure against (default: the run's training images): a data set; a folder, .zip, .tar or "
            ".npz of images; an .npz of statistics (mu, sigma), as ADM's and EDM's; or clean-fid's published ones, "
            "clean-fid:name=cifar10,resolution=32,split=train.",
            autocompletion=complete_plugin("datasets"),
        ),
    ] = None,
    features: Annotated[str | None, options.FEATURES] = None,
    feature_weights: Annotated[
        Path | None,
        option("--feature-weights", help="The extractor's weights (default: the cache; see the command doctor)."),
    ] = None,
    metrics: Annotated[str | None, options.METRICS] = None,
    num: Annotated[int, options.NUM] = 1000,
    steps: Annotated[str | None, options.SAMPLING_STEPS] = None,
    sampler: Annotated[str, options.SAMPLER] = "ddim",
    guide: Annotated[str | None, options.GUIDE] = None,
    seed: Annotated[int | None, options.SAMPLING_SEED] = None,
    checkpoint: Annotated[str | None, options.CHECKPOINT] = None,
    checkpoints: Annotated[
        str | None,
        option("--checkpoints", group=SAMPLING, help="Several checkpoints' steps, separated by commas, or all."),
    ] = None,
    weights: Annotated[str, options.WEIGHTS] = "ema",
    batch_size: Annotated[str, options.SAMPLING_BATCH] = "auto",
    precision: Annotated[str, options.SAMPLING_PRECISION] = "fp32",
    processes: Annotated[int, options.PROCESSES] = 1,
    export_reference: Annotated[
        Path | None,
        option("--export-reference", help="Write the reference's mean and covariance to FILE.npz (mu, sigma)."),
    ] = None,
    plot: Annotated[
        Path | None,
        option(
            "--plot",
            group=SAMPLING,
            help="FILE.png, .svg or .pdf: figures against NFE, or against images seen in training.",
        ),
    ] = None,
    width: Annotated[str | None, options.WIDTH] = None,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    data: Annotated[Path | None, options.DATA] = None,
    device: Annotated[str, options.DEVICE] = "auto",
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Measure a run's samples, or anyone's images, against real ones.

    Each figure stands beside the same figure for real held-out images, where there are some (the floor).
    """
    from debiasctl import paths
    from debiasctl.cli.locations import data_location, moved_spec

    if (run is None) == (samples is None):
        problem = "name a run, or images with --samples" if run is None else "a RUN and --samples are two measurements"
        raise UsageError(f"{problem}. Give one: debiasctl evaluate RUN, or debiasctl evaluate --samples PATH")
    location = data_location(data_dir)
    wide = options.parse_width(width, plotted=plot is not None)
    from debiasctl.evaluation.choices import Choices, check_choices, check_images

    choices = Choices(features, feature_weights, split_names(metrics), reference, export_reference)
    if run is None:
        assert samples is not None, "either a run or samples"
        _refuse_options_of_a_run(context)
        if data is not None:
            raise UsageError("--data says where a run's images are. Name what to measure against by --reference")
        check_images(samples, choices)
        check_choices(choices, None)
        check_place(paths.evaluations_dir() / "record")
        if processes > 1:
            launch_all(processes, device=device)
        _show_log()
        _report(_of_images(samples, location, choices, device), as_json=as_json)
        return
    from debiasctl.cli.standing import named_run, note_guide, note_standing, pin_guide, pin_trained

    found = named_run(run, quiet=processes > 1)
    given_counts, size = None if steps is None else parse_steps(steps), parse_batch_size(batch_size)
    pins = context.with_resource(ExitStack())  # training keeps what is measured until this command ends
    trained = [pin_trained(found, text, pins) for text in parse_checkpoints(found, checkpoint, checkpoints)]
    guided = None if guide is None else pin_guide(guide, found, pins)
    if plot is not None:
        from debiasctl.evaluation.curves import check_plot

        check_plot(plot, num_points=len(given_counts or [0]) * len(trained))
    spec = moved_spec(found.spec(), data, data_dir=data_dir, reference=reference)
    _check_names(found, spec, choices, sampler=sampler)
    _show_log()
    from debiasctl.cli.progress import images_progress
    from debiasctl.compute import processes as processes_
    from debiasctl.compute.device import make_accelerator
    from debiasctl.evaluation.evaluate import evaluate as run_evaluation
    from debiasctl.sampling import default_steps, make_request

    requests = [
        make_request(
            found,
            spec,
            num=num,
            num_steps=count,
            sampler=sampler,
            seed=seed,
            checkpoint=str(step),
            weights=weights,
            precision=precision,
            guide=guided,
        )
        for step in trained
        for count in given_counts or [default_steps([spec])]
    ]
    if processes > 1:
        launch_all(processes, device=device)
    place = make_accelerator(device).device
    requests = processes_.agreed(requests)  # a run in training may write a checkpoint at any moment
    note_standing(found, spec, requests[-1].step)
    note_guide(guided)
    with _interruptible(), images_progress() as show:
        records = run_evaluation(
            found, spec, requests, location, choices=choices, device=place, batch_size=size, on_progress=show
        )
    if plot is not None and rank() == 0:
        from debiasctl.evaluation.curves import plot_curves

        plot_curves(plot, records, width=wide)
        note(f"curves: {plot}")
    _report(records, as_json=as_json)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Say how to resume an evaluation that is interrupted, and what to reduce where memory runs out."""
    try:
        with memory_reported(EvaluationError, "while evaluating", advice=_LESS):
            yield
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "interrupted: images drawn, and features of real images that were read to the end, are kept; repeat the "
            "command to resume",
            signal_number=number_of(stop),
        ) from stop


def _show_log() -> None:
    """Show the log of the first process alone."""
    if rank() == 0:
        show_log()


def _check_names(run: "Run", spec: "RunSpec", choices: "Choices", *, sampler: str) -> None:
    """Refuse early what can be refused without torch and the data."""
    from debiasctl import registry
    from debiasctl.api import DatasetInfo
    from debiasctl.evaluation.choices import check_choices

    registry.find("samplers", registry.as_ref(sampler).name)
    content = spec.content
    if content is not None:
        info = DatasetInfo(
            content.image_size, content.channels, content.classes, content.num_train, content.num_heldout
        )
        check_choices(choices, info)
    check_place(run.evaluations_dir / "record")


def _of_images(samples: Path, location: "DataLocation", choices: "Choices", device: str) -> "list[EvaluationRecord]":
    from debiasctl.cli.progress import images_progress
    from debiasctl.compute.device import make_accelerator
    from debiasctl.evaluation.evaluate import evaluate_images

    place = make_accelerator(device).device
    with _interruptible(), images_progress() as show:
        return evaluate_images(samples, location, choices=choices, device=place, on_progress=show)


def _report(records: "list[EvaluationRecord]", *, as_json: bool) -> None:
    if rank() > 0:
        return
    if as_json:
        print_json({"evaluations": [record.to_json() for record in records]})
    else:
        print_records(records)


def parse_checkpoints(run: "Run", checkpoint: str | None, checkpoints: str | None) -> list[str | None]:
    """Which checkpoints to measure, as `--checkpoint` takes them; [None] is the last one."""
    if checkpoints is None:
        return [checkpoint]
    if checkpoint is not None:
        raise UsageError("--checkpoint and --checkpoints both say what to measure. Give one of them")
    if checkpoints.strip() == "all":
        return [str(step) for step in run.checkpoint_steps()] or [None]  # whose refusal says that there is none
    parts = [part.strip() for part in checkpoints.split(",")]
    if any(whole_number(part) is None for part in parts):
        raise UsageError(
            f"--checkpoints {quoted(checkpoints)}: give steps, separated by commas, for example 500,1000; or all"
        )
    return list(dict.fromkeys(parts))


def split_names(text: str | None) -> list[str] | None:
    """`a, b` as a list; None stays None."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _refuse_options_of_a_run(context: typer.Context) -> None:
    """Refuse options that have no effect on given images."""
    names = ", ".join(name for name, _ in options.given(context) if name in options.GROUPS[SAMPLING])
    if names:
        raise UsageError(f"{names} say how a run is sampled, and --samples measures images that are there already")
