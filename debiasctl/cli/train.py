"""`debiasctl train`."""

import shlex
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_plugin, complete_run, complete_setting
from debiasctl.cli.dataset import announce_images, check_image_size, dataset_named, hinted
from debiasctl.cli.forecast import forecast, note_company, resolve_trial
from debiasctl.cli.launch import check_launch, launch, rank, sigterm_reported, this_command
from debiasctl.cli.locations import data_location, moved_spec
from debiasctl.cli.options import RESUME, option
from debiasctl.cli.output import note, print_json, say, show_log
from debiasctl.cli.plan import end_plan, short_reference, show_plan
from debiasctl.cli.repeat import data_place, given_words, resumed_alike
from debiasctl.cli.standing import named_run, note_standing
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.api import DataLocation, DatasetInfo
    from debiasctl.runs.store import Run
    from debiasctl.specs.sections import RunSpec
    from debiasctl.training.conduct import Conduct

EXAMPLES = """[bold]Examples[/bold]

debiasctl train cifar10 --weighting debiased

debiasctl train digits --weighting min-snr:gamma=5 --name digits-minsnr --seed 1

debiasctl train ./my-images --trial

debiasctl train ./my-images --set optimizer.lr=0.0002 --dry-run

debiasctl train --resume digits-minsnr --steps 4000"""


def train(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET|PATH",
            help="A data set's name, or the path of a folder or zip of images.",
            autocompletion=complete_plugin("datasets"),
            show_default=False,
        ),
    ] = None,
    # those that stand for settings are read from the context
    weighting: Annotated[str | None, options.WEIGHTING] = None,
    normalize: Annotated[str | None, options.NORMALIZE] = None,
    backbone: Annotated[str | None, options.BACKBONE] = None,
    autoencoder: Annotated[str | None, options.AUTOENCODER] = None,
    prediction: Annotated[str | None, options.PREDICTION] = None,
    schedule: Annotated[str | None, options.SCHEDULE] = None,
    timesteps: Annotated[str | None, options.TIMESTEPS] = None,
    extension: Annotated[list[str] | None, options.EXTENSION] = None,
    steps: Annotated[int | None, options.STEPS] = None,
    images: Annotated[int | None, options.IMAGES] = None,
    image_size: Annotated[int | None, options.IMAGE_SIZE] = None,
    batch_size: Annotated[int | None, options.BATCH_SIZE] = None,
    lr: Annotated[float | None, options.LR] = None,
    seed: Annotated[int | None, options.SEED] = None,
    name: Annotated[
        str | None, option("--name", help="The run's name (default: made from data, weighting, seed).")
    ] = None,
    spec: Annotated[Path | None, options.SPEC_FILE] = None,
    set_: Annotated[
        list[str] | None,
        option(
            "--set",
            metavar="SECTION.FIELD=VALUE",
            help="One setting; may be given again.",
            autocompletion=complete_setting,
            show_default=False,
        ),
    ] = None,
    data_dir: Annotated[Path | None, options.DATA_DIR] = None,
    data: Annotated[Path | None, options.DATA] = None,
    checkpoint_every: Annotated[int | None, options.CHECKPOINT_EVERY] = None,
    evaluate_every: Annotated[int | None, options.EVALUATE_EVERY] = None,
    device: Annotated[str, options.DEVICE] = "auto",
    precision: Annotated[str | None, options.PRECISION] = None,
    accumulation: Annotated[int | None, options.ACCUMULATION] = None,
    processes: Annotated[int, options.PROCESSES] = 1,
    deterministic: Annotated[bool | None, options.DETERMINISTIC] = None,
    max_hours: Annotated[
        float | None,
        option("--max-hours", group=RESUME, help="Stop with a checkpoint after so many hours.", show_default=False),
    ] = None,
    track: Annotated[
        str | None,
        option(
            "--track",
            group=RESUME,
            argument="trackers",
            metavar="TRACKER,...",
            help="Also log to tensorboard, wandb, mlflow, ...",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        str | None,
        option("--resume", metavar="RUN", help="Resume a run.", autocompletion=complete_run, show_default=False),
    ] = None,
    init_from: Annotated[
        str | None,
        option(
            "--init-from",
            metavar="RUN",
            help="Start from the averaged weights of a run.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    trial: Annotated[
        bool,
        option("--trial", help="A small network and a budget of about ten minutes on this machine, to see it learn."),
    ] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Show what would be trained, and train nothing.")] = False,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Train a diffusion model under a chosen loss weighting.

    Settings are resolved in this order, later over earlier: defaults, the data set's recommended settings, --spec,
    --set, the other options.
    """
    from debiasctl.compute.others import Others
    from debiasctl.runs.pins import choose_step
    from debiasctl.runs.store import refuse_taken_name
    from debiasctl.training.checks import check_resumable
    from debiasctl.training.conduct import Conduct

    if steps is not None and images is not None:
        raise UsageError("--steps and --images are two ways to say one budget. Give one of them")
    if trial and images is not None:
        raise UsageError("--trial chooses a budget in steps, and others from it. Give --steps instead of --images")
    if max_hours is not None and not 0 < max_hours < float("inf"):
        raise UsageError(f"--max-hours {max_hours}: give a time above 0")
    location, others = data_location(data_dir), Others()
    if rank() == 0:
        show_log()
    conduct = Conduct(device=device, max_hours=max_hours, trackers=_trackers(track))
    with sigterm_reported() if processes > 1 else nullcontext():
        if resume is not None:
            _refuse_beside_resume(context)
            run = named_run(resume, quiet=processes > 1)
            check_resumable(run, run.spec())
            if processes > 1:
                _launch(run.spec(), processes, conduct, resumed=run.name)
            moved_spec(run.spec(), data, data_dir=data_dir)  # refuses what would have no effect
            note_company(others, device=device)
            with resumed_alike(context, run.spec()):
                _resume(run, location, steps=steps, images=images, data=data, conduct=conduct)
            _report(run, context, as_json=as_json)
            return
        if data is not None:
            raise UsageError("--data says where the images of a run to --resume are now. Name new data without it")
        given, sized = options.given_settings(context), image_size is not None
        kind = device if trial else None

        def resolve(way: Mapping[str, Any]) -> "tuple[RunSpec, DatasetInfo]":
            added = [*given, {"data": {"dataset": dict(way)}}] if way else given
            return _resolve(dataset, spec, set_ or [], added, images, location, sized=sized, trial=kind)

        # what is not there, or is there already, is refused before torch and the data take their time
        if name is not None and rank() == 0:
            refuse_taken_name(name)
        begun = None if init_from is None else named_run(init_from, quiet=processes > 1)
        with hinted(resolve):
            resolved, info = resolve({})
        if begun is not None:
            _note_begun(begun, choose_step(begun, None))
        _check_plan(resolved, info, conduct, trained=not dry_run)
        if dry_run:
            check_launch(resolved, processes=processes, device=device, trackers=conduct.trackers)
            if rank() == 0:
                notes = show_plan(resolved, info, device=device, as_json=as_json)
                if not trial:
                    forecast(resolved, info, device=device, context=context)
                if not as_json:
                    end_plan(notes)
            return
        if processes > 1:
            _launch(resolved, processes, conduct, trial=trial)
        if trial or not forecast(resolved, info, device=device, context=context):
            note_company(others, device=device)
        with hinted(resolve), resumed_alike(context, resolved):
            run = _start(resolved, location, name=name, init_from=begun, conduct=conduct)
        _report(run, context, as_json=as_json)


def _note_begun(run: "Run", step: int) -> None:
    """Say of the run whose averaged weights a training starts from what those hold."""
    from debiasctl.models.initial_share import begun_note

    spec = run.spec()
    note_standing(run, spec, step)
    text = begun_note(spec.ema, step, batch_size=spec.training.batch_size)
    if text is not None and rank() == 0:
        note(f"note: run '{run.name}': {text}")


def _check_plan(spec: "RunSpec", info: "DatasetInfo", conduct: "Conduct", *, trained: bool) -> None:
    """Refuse, before anything is measured, a device or tracker that is not there, and what is too large."""
    from debiasctl.compute.device import check_trackers, choose_device
    from debiasctl.training.feasibility import PLANNED, TRAINED, check_feasible

    chosen = choose_device(conduct.device)
    check_trackers(conduct.trackers)
    check_feasible(spec, info, device=chosen, times=TRAINED[chosen.type] if trained else PLANNED)


def _refuse_beside_resume(context: typer.Context) -> None:
    allowed = options.in_group(context, RESUME)
    refused = [name for name, _ in options.given(context) if name not in ("--resume", *allowed)]
    if refused:
        raise UsageError(
            f"--resume trains a run further as it is; it does not take {', '.join(refused)}. "
            f"Allowed beside it: {', '.join(allowed)}"
        )


def _launch(
    spec: "RunSpec", processes: int, conduct: "Conduct", *, resumed: str | None = None, trial: bool = False
) -> NoReturn:
    import sys

    if trial:
        raise UsageError("--trial is a training of ten minutes in one process. Leave --processes out")

    check_launch(spec, processes=processes, device=conduct.device, trackers=conduct.trackers, resumed=resumed)
    sys.exit(launch(this_command(), processes=processes))


def _trackers(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _resolve(
    dataset: str | None,
    spec: Path | None,
    settings: list[str],
    given: list[dict[str, Any]],
    images: int | None,
    location: "DataLocation",
    *,
    sized: bool,
    trial: str | None,
) -> "tuple[RunSpec, DatasetInfo]":
    """The spec and the facts about its data; `trial` is the device of a trial, None for an ordinary training."""
    from debiasctl.models.outside_code import trust_named
    from debiasctl.specs.files import merge, parse_setting, read_spec_file
    from debiasctl.specs.names import check_names
    from debiasctl.specs.resolve import resolve_spec, validate_spec

    layers = [*map(parse_setting, settings), *given]
    if dataset is not None:
        layers.append({"data": {"dataset": dataset_named(dataset)}})
    file = None if spec is None else read_spec_file(spec)
    check_names(reduce(merge, layers, {}))
    if sized:
        check_image_size(reduce(merge, layers, file or {}))
    if trial is None:
        resolved, info = resolve_spec(layers, location, file=file)
        trust_named(resolved, layers, file)
    else:
        resolved, info = resolve_trial(layers, location, file=file, device=trial)
    if images is not None:
        training = {"training": {"steps": _steps(images, resolved)}}
        resolved = validate_spec(merge(resolved.model_dump(mode="json"), training))
    return resolved, info


def _steps(images: int, spec: "RunSpec") -> int:
    """Steps that see at least `images` images."""
    return -(-images // spec.training.batch_size)


def _start(
    spec: "RunSpec",
    location: "DataLocation",
    *,
    name: str | None,
    init_from: "Run | None",
    conduct: "Conduct",
) -> "Run":
    from debiasctl.cli.progress import training_progress
    from debiasctl.training.monitor import Monitor
    from debiasctl.training.session import start

    with training_progress() as show:
        whole = replace(conduct, on_start=_announce, on_progress=show, observer=Monitor)
        return start(spec, location, name=name, conduct=whole, init_from=init_from)


def _resume(
    run: "Run",
    location: "DataLocation",
    *,
    steps: int | None,
    images: int | None,
    data: Path | None,
    conduct: "Conduct",
) -> None:
    from debiasctl.cli.progress import training_progress
    from debiasctl.training.monitor import Monitor
    from debiasctl.training.session import resume

    budget = steps if images is None else _steps(images, run.spec())
    with training_progress() as show:
        whole = replace(conduct, on_start=_announce, on_progress=show, observer=Monitor)
        resume(run, location, steps=budget, conduct=whole, data_path=data)


def _announce(run: "Run", spec: "RunSpec", parameters: int, step: int) -> None:
    start = f"from step {step}" if step else "from the start"
    extended = "".join(f"extension {short_reference(str(one.ref))}, " for one in spec.extensions)
    note(
        f"run '{run.name}': {spec.data.dataset.name}, {short_reference(str(spec.loss.weighting.ref))} weighting, "
        f"{spec.model.backbone.name} of {parameters:,} parameters, {spec.model.prediction}-prediction, "
        f"{extended}{start} to step {spec.training.steps}"
    )
    if spec.content is not None:
        announce_images(spec.content, conditional=bool(spec.model.conditional))


def _report(run: "Run", context: typer.Context, *, as_json: bool) -> None:
    from debiasctl.models.initial_share import initial_share
    from debiasctl.runs.store import read_metrics

    if rank() > 0:
        return
    status, spec = run.status(), run.spec()
    losses = [record.loss for record in read_metrics(run) if record.kind == "train"]
    if as_json:
        print_json(
            {
                "name": run.name,
                "path": str(run.path),
                "state": status.state,
                "step": status.step,
                "loss": losses[-1],
                "ema_initial_share": initial_share(spec.ema, status.step, batch_size=spec.training.batch_size),
            }
        )
        return
    say(f"run '{run.name}' is {status.state} at step {status.step}: {run.path}")
    device, place = given_words(context, only=("--device",)), data_place(context, spec)
    note(f"next: debiasctl sample {run.typed} {shlex.join(['--out', f'{run.name}.png', *device])}")
    note(f"next: debiasctl evaluate {run.typed} {shlex.join([*place, *device])}".rstrip())
