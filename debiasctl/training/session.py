"""A training from its spec to its run's folder: what `debiasctl train` does, without a command line."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from debiasctl.api import DataLocation, LoadedDataset
from debiasctl.compute import processes
from debiasctl.compute.device import choose_device, make_accelerator, resolve_compute
from debiasctl.compute.signals import StopSignals
from debiasctl.data.load import load_data
from debiasctl.errors import CheckpointError, UsageError
from debiasctl.files import write_json
from debiasctl.models.checkpoint_files import remove_leftovers, verify
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run, find_run, read_metrics
from debiasctl.specs.files import flatten
from debiasctl.specs.sections import InitFromSection, RunSpec
from debiasctl.training.checkpoints import load_last
from debiasctl.training.checks import check_sharing
from debiasctl.training.initial import initial_weights, load_initial
from debiasctl.training.loop import Observer, Progress, fit
from debiasctl.training.origin import check_plugins, content_section, provenance
from debiasctl.training.setup import set_up
from debiasctl.training.training import Training

_LOG = logging.getLogger(__name__)
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Conduct:
    """How a training is conducted, which decides nothing of what it computes.

    `device` is auto, cpu or cuda; `on_start(run, spec, parameters, step)` comes before the first step, which follows
    `step`; callbacks are called in the first process alone. `observer` is made where the spec has a monitor.
    """

    device: str = "auto"
    max_hours: float | None = None
    trackers: tuple[str, ...] = ()
    on_start: Callable[[Run, RunSpec, int, int], None] = lambda run, spec, parameters, step: None
    on_progress: OnProgress = lambda progress: None
    observer: Callable[[Training, LoadedDataset], Observer] | None = None


def start(
    spec: RunSpec, location: DataLocation, *, name: str | None, conduct: Conduct, init_from: Run | None = None
) -> Run:
    """Make a run from a resolved spec and train it, from `init_from`'s weights on; every process calls this.

    Raises:
        DataError: the data cannot be read, or are not those that the spec was made for; RunNameError: the name is
        taken; UsageError: see `make_accelerator` and `check_sharing`; and what `fit` raises.
    """
    spec = resolve_compute(spec, choose_device(conduct.device))
    accelerator = make_accelerator(conduct.device, spec.compute, trackers=conduct.trackers)
    check_sharing(spec, accelerator.num_processes)
    with accelerator.main_process_first():  # what has to be downloaded or decoded is, once
        data = load_data(spec, location)
    spec = spec.model_copy(update={"content": content_section(data), "provenance": provenance()})
    spec, initialize = _initial(spec, init_from)
    training = set_up(spec, data, accelerator=accelerator, initialize=initialize)
    observer = conduct.observer(training, data) if conduct.observer and spec.monitor else None
    status = new_status(
        num_steps=spec.training.steps,
        dataset=spec.data.dataset.name,
        weighting=spec.loss.weighting.name,
        seed=spec.training.seed,
    )
    with StopSignals() as signals:  # none ends the process silently once there is a run to go on with
        made = create_run(name, spec, status=status) if accelerator.is_main_process else None
        run = processes.agreed(made)
        assert run is not None, "the first process has made it"
        with _only_trainer(run, accelerator):
            _fit(run, training, data, conduct, observer=observer, signals=signals)
    return run


def resume(run: Run, location: DataLocation, *, steps: int | None, conduct: Conduct) -> Run:
    """Go on with a run from its last checkpoint, to a larger budget where `steps` gives one.

    Raises:
        UsageError: the run is already at its budget, or the budget is not larger, or it cannot go on here (see
        `make_accelerator` and `check_sharing`); RunBusyError: another process is training it; DataError: the data are
        not those that it was trained on.
    """
    spec = run.spec()
    accelerator = make_accelerator(conduct.device, spec.compute, trackers=conduct.trackers, resumed=run.name)
    check_sharing(spec, accelerator.num_processes, resumed=run.name)
    with _only_trainer(run, accelerator):
        stored = run.spec()
        if accelerator.is_main_process:
            check_plugins(run, stored)
        spec = _extended(run, stored, steps)
        with accelerator.main_process_first():
            data = load_data(spec, location)
        training = set_up(spec, data, accelerator=accelerator)
        observer = conduct.observer(training, data) if conduct.observer and spec.monitor else None
        restored = load_last(run, training)
        if accelerator.is_main_process:
            read_metrics(run)  # where they, or all checkpoints, are damaged, the run stays as it was
            remove_leftovers(run)
            _note_lost_checkpoint(run)
            if spec.training.steps > stored.training.steps:
                _note_changed_course(training)
                write_json(run.path / "spec.json", spec.model_dump(mode="json"))
        accelerator.wait_for_everyone()
        _fit(run, training, data, conduct, observer=observer, restored=restored)
    return run


def _initial(spec: RunSpec, init_from: Run | None) -> tuple[RunSpec, Callable[[nn.Module], None] | None]:
    """The spec that says which weights to start from, where there are any, and what puts them into a network.

    Raises:
        UsageError: the spec says which they were, and they are others now; and see `initial_weights`.
    """
    stated = spec.training.init_from
    if init_from is None and stated is None:
        return spec, None
    if init_from is not None:
        state, described = initial_weights(init_from)
    else:
        assert stated is not None, "one of the two is there"
        state, described = initial_weights(find_run(stated.run), stated.weights, step=stated.step)
        if described["sha256"] != stated.sha256:
            raise UsageError(
                f"the spec starts from the {stated.weights} weights of run '{stated.run}' at step {stated.step}, and "
                "these are others now (by their SHA-256). Restore them, or choose again: `init_from=RUN`"
            )
    training = spec.training.model_copy(update={"init_from": InitFromSection(**described)})

    def initialize(network: nn.Module) -> None:
        load_initial(network, state, source=str(described["run"]))

    return spec.model_copy(update={"training": training}), initialize


def _fit(
    run: Run,
    training: Training,
    data: LoadedDataset,
    conduct: Conduct,
    *,
    observer: Observer | None,
    restored: tuple[int, dict[str, float]] | None = None,
    signals: StopSignals | None = None,
) -> None:
    def nothing(progress: Progress) -> None: ...

    is_main = training.accelerator.is_main_process
    if is_main:
        conduct.on_start(run, training.spec, _size(training.network), restored[0] if restored else 0)
    _start_trackers(run, training)
    try:
        fit(
            run,
            training,
            data,
            on_progress=conduct.on_progress if is_main else nothing,
            max_hours=conduct.max_hours,
            observer=observer,
            restored=restored,
            signals=signals,
        )
    finally:
        training.accelerator.end_training()


def _start_trackers(run: Run, training: Training) -> None:
    """Give the spec to the trackers that were asked for; those that keep files do so in the run's folder."""
    accelerator = training.accelerator
    if not accelerator.log_with:
        return
    accelerator.project_configuration.logging_dir = str(run.path / "trackers")
    spec = flatten(training.spec.model_dump(mode="json", exclude={"provenance"}))
    config = {
        name: value if isinstance(value, int | float | str) else json.dumps(value) for name, value in spec.items()
    }
    accelerator.init_trackers("debiasctl", config=config, init_kwargs={"wandb": {"name": run.name}})


@contextlib.contextmanager
def _only_trainer(run: Run, accelerator: Accelerator) -> Iterator[None]:
    """Hold the run's lock in the first process; the others go on once it has it."""
    with run.lock() if accelerator.is_main_process else contextlib.nullcontext():
        accelerator.wait_for_everyone()
        yield


def _note_changed_course(training: Training) -> None:
    """Say what depends on how many steps there are to be."""
    if training.spec.optimizer.decay != "none":
        _LOG.warning("the learning rate decays towards the last step; with this one its course changes")
    if training.objective.varies:
        _LOG.warning("the weighting changes towards the last step; with this one its course changes")


def _extended(run: Run, spec: RunSpec, steps: int | None) -> RunSpec:
    reached = (run.checkpoint_steps() or [0])[-1]
    budget = spec.training.steps if steps is None else steps
    if budget == reached == spec.training.steps and run.status().state != "finished":
        return spec  # it was stopped between its last checkpoint and its last word
    if budget <= reached and _is_whole(run, reached):
        raise UsageError(
            f"run '{run.name}' is at step {reached} of {spec.training.steps}: there is nothing to do for "
            f"{budget} steps. Give a larger budget, for example: "
            f"`resume({run.name!r}, steps={2 * reached or 1000})`"
        )
    if budget < spec.training.steps:
        raise UsageError(
            f"run '{run.name}' has a budget of {spec.training.steps} steps; it can be raised, not lowered to {budget}"
        )
    return spec.model_copy(update={"training": spec.training.model_copy(update={"steps": budget})})


def _is_whole(run: Run, step: int) -> bool:
    try:
        verify(run.checkpoint_path(step), run)
    except CheckpointError:
        return False  # told of, with the one that takes its place, when that is loaded
    return True


def _note_lost_checkpoint(run: Run) -> None:
    """Say so where the run has been further than its last whole checkpoint."""
    reached, last = run.status().step, (run.checkpoint_steps() or [0])[-1]
    if reached > last:
        _LOG.warning(
            "run '%s' has been at step %d, and its last whole checkpoint is of step %d", run.name, reached, last
        )


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
