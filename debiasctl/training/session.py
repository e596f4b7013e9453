"""Starting and resuming a training in a run's folder: `debiasctl train` without the command line."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from debiasctl.api import DataLocation, LoadedDataset
from debiasctl.compute import processes
from debiasctl.compute.device import choose_device, make_accelerator
from debiasctl.compute.memory import memory_reported
from debiasctl.compute.signals import StopSignals
from debiasctl.data.content import content_section
from debiasctl.data.load import load_data, settled
from debiasctl.data.moved import moved_to
from debiasctl.errors import CheckpointError, TrainingError, UsageError
from debiasctl.files import write_json
from debiasctl.models.checkpoint_files import remove_leftovers, verify
from debiasctl.models.latent_space import LatentSpace, latent_space, new_latents, trained_data, write_autoencoder
from debiasctl.runs.parts import SPEC, TRACKERS
from debiasctl.runs.provenance import provenance
from debiasctl.runs.removal import tidy
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run, find_run, read_metrics
from debiasctl.specs.files import flatten
from debiasctl.specs.sections import RunSpec
from debiasctl.training.checkpoints import load_last
from debiasctl.training.checks import check_resumable, check_sharing
from debiasctl.training.conduct import Conduct
from debiasctl.training.feasibility import TRAINED, check_feasible
from debiasctl.training.initial import initial_weights, load_initial
from debiasctl.training.loop import Observer, Progress, fit
from debiasctl.training.memory import building_reported
from debiasctl.training.notes import plan_notes
from debiasctl.training.origin import check_plugins
from debiasctl.training.setup import resolve_compute, set_up
from debiasctl.training.training import Training

_LOG = logging.getLogger(__name__)


def start(
    spec: RunSpec, location: DataLocation, *, name: str | None, conduct: Conduct, init_from: Run | None = None
) -> Run:
    """Make a run from a resolved spec and train it, starting from `init_from`'s weights; every process calls this.

    Raises:
        DataError: if the data cannot be read, or are not those that the spec was made for.
        RunNameError: if the name is taken.
        UsageError: if `make_accelerator`, `check_sharing` or `check_feasible` raises it; and the errors of `fit`.
    """
    spec = resolve_compute(spec, choose_device(conduct.device))
    accelerator = make_accelerator(conduct.device, spec.compute, trackers=conduct.trackers)
    check_sharing(spec, accelerator.num_processes)
    images = _load(spec, location, accelerator)
    space, data = _new_latents(spec, images, location, accelerator)
    content = content_section(images).model_copy(update={"latents": space and space.section})
    spec = spec.model_copy(update={"content": content, "provenance": provenance()})
    _check_feasible(spec, data, accelerator)
    with building_reported(spec, data.info, device=accelerator.device):
        spec, initialize = _initial(spec, init_from)
        training = set_up(spec, data, accelerator=accelerator, initialize=initialize)
        observer = conduct.observer(training, images, space) if conduct.observer and spec.monitor else None
    status = new_status(
        num_steps=spec.training.steps,
        dataset=spec.data.dataset.name,
        weighting=spec.loss.weighting.name,
        seed=spec.training.seed,
    )
    with StopSignals() as signals:  # once there is a run to resume, no signal ends the process silently
        made = create_run(name, spec, status=status, fill=_filling(space)) if accelerator.is_main_process else None
        run = processes.agreed(made)
        assert run is not None, "the first process has made it"
        with _only_trainer(run, accelerator):
            _fit(run, training, data, conduct, observer=observer, signals=signals)
            _settle(run, images, accelerator)
    return run


def resume(
    run: Run, location: DataLocation, *, steps: int | None, conduct: Conduct, data_path: Path | None = None
) -> Run:
    """Resume a run from its last checkpoint, with a budget of `steps` steps if given.

    `data_path` is where its images are, if they have moved; the run's spec then states the new place.

    Raises:
        UsageError: if the run holds a model from elsewhere, is already at its budget, the new budget is smaller, or
            `make_accelerator`, `check_sharing` or `check_feasible` raises it.
        RunBusyError: if another process is training it.
        DataError: if the data are not those that it was trained on.
    """
    spec = run.spec()
    check_resumable(run, spec)
    accelerator = make_accelerator(conduct.device, spec.compute, trackers=conduct.trackers, resumed=run.name)
    check_sharing(spec, accelerator.num_processes, resumed=run.name)
    with _only_trainer(run, accelerator):
        stored = run.spec()
        run.check_status()
        if accelerator.is_main_process:
            check_plugins(run, stored)
        spec = moved_to(_extended(run, stored, steps), data_path)
        images = _load(spec, location, accelerator)
        spec = settled(spec, images)
        space = latent_space(run, spec, device=accelerator.device)
        with _once(accelerator, "while the images are encoded"):
            data = images if space is None else trained_data(spec, images, space, cache_dir=location.cache_dir)
        _check_feasible(spec, data, accelerator, resumed=run.name)
        with building_reported(spec, data.info, device=accelerator.device):
            training = set_up(spec, data, accelerator=accelerator)
            observer = conduct.observer(training, images, space) if conduct.observer and spec.monitor else None
            restored = load_last(run, training)
        if accelerator.is_main_process:
            read_metrics(run)  # raises if they are damaged, before the run is changed
            tidy(run)
            remove_leftovers(run)
            _note_lost_checkpoint(run)
            if spec.training.steps > stored.training.steps:
                _note_changed_course(training)
            if spec != stored:
                write_json(run.path / SPEC, spec.model_dump(mode="json"))
        accelerator.wait_for_everyone()
        _fit(run, training, data, conduct, observer=observer, restored=restored)
        _settle(run, images, accelerator)
    return run


@contextlib.contextmanager
def _once(accelerator: Accelerator, doing: str) -> Iterator[None]:
    """Let the first process make what the others then find; `doing` says in messages when memory was lacking."""
    smaller = "Choose fewer or smaller images"
    with accelerator.main_process_first(), memory_reported(TrainingError, doing, advice=smaller):
        yield


def _load(spec: RunSpec, location: DataLocation, accelerator: Accelerator) -> LoadedDataset:
    """The data, which the first process downloads and decodes once."""
    with _once(accelerator, "while the data are read"):
        return load_data(spec, location)


def _new_latents(
    spec: RunSpec, images: LoadedDataset, location: DataLocation, accelerator: Accelerator
) -> tuple[LatentSpace | None, LoadedDataset]:
    """What the network is trained on: latents, which the first process encodes once, or the images."""
    if spec.data.autoencoder is None:
        return None, images
    with _once(accelerator, "while the images are encoded"):
        return new_latents(spec, images, device=accelerator.device, cache_dir=location.cache_dir)


def _filling(space: LatentSpace | None) -> Callable[[Path], None]:
    """What puts the autoencoder into a new run's folder, if there is one."""

    def fill(folder: Path) -> None:
        if space is not None:
            write_autoencoder(folder, space.autoencoder)

    return fill


def _check_feasible(
    spec: RunSpec, data: LoadedDataset, accelerator: Accelerator, *, resumed: str | None = None
) -> None:
    device = accelerator.device
    check_feasible(spec, data.info, device=device, times=TRAINED[device.type], resumed=resumed)


def _initial(spec: RunSpec, init_from: Run | None) -> tuple[RunSpec, Callable[[nn.Module], None] | None]:
    """The spec with the origin of the initial weights, if there are any, and a function that loads them.

    Raises:
        UsageError: if the weights differ from those that the spec states; and the errors of `initial_weights`.
    """
    stated = spec.training.init_from
    if init_from is None and stated is None:
        return spec, None
    if init_from is not None:
        state, origin = initial_weights(init_from)
        own, other = (one.latents_sha256 for one in (spec, init_from.spec()))
        if own != other:
            _LOG.warning(
                "run '%s', whose weights are the initial ones, was trained on %s: weights that fit may be of no use",
                init_from.name,
                "images, and this one is on latents" if other is None else "latents of another autoencoder",
            )
    else:
        assert stated is not None, "one of the two is given"
        state, origin = initial_weights(find_run(stated.run), stated.weights, step=stated.step)
        if origin.sha256 != stated.sha256:
            raise UsageError(
                f"the spec starts from the {stated.weights} weights of run '{stated.run}' at step {stated.step}, which "
                "have changed since (by their SHA-256). Restore them, or choose others: `init_from=RUN`"
            )
    training = spec.training.model_copy(update={"init_from": origin})

    def initialize(network: nn.Module) -> None:
        load_initial(network, state, source=origin.run)

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
        for text in plan_notes(training.spec, training.objective):
            _LOG.warning("%s", text)
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


def _settle(run: Run, images: LoadedDataset, accelerator: Accelerator) -> None:
    """State the hash of the images' content in the run's spec if the last of them were read just now."""
    if accelerator.is_main_process and images.files is not None:
        spec = run.spec()
        if (known := settled(spec, images)) != spec:
            write_json(run.path / SPEC, known.model_dump(mode="json"))


def _start_trackers(run: Run, training: Training) -> None:
    """Start the requested trackers with the spec; those that write files do so in the run's folder."""
    accelerator = training.accelerator
    if not accelerator.log_with:
        return
    accelerator.project_configuration.logging_dir = str(run.path / TRACKERS)
    spec = flatten(training.spec.model_dump(mode="json", exclude={"provenance"}))
    config = {
        name: value if isinstance(value, int | float | str) else json.dumps(value) for name, value in spec.items()
    }
    accelerator.init_trackers("debiasctl", config=config, init_kwargs={"wandb": {"name": run.name}})


@contextlib.contextmanager
def _only_trainer(run: Run, accelerator: Accelerator) -> Iterator[None]:
    """Hold the run's lock in the first process; the others wait until it has it."""
    with run.lock() if accelerator.is_main_process else contextlib.nullcontext():
        accelerator.wait_for_everyone()
        yield


def _note_changed_course(training: Training) -> None:
    """Warn of everything that depends on the total number of steps."""
    if training.spec.optimizer.decay != "none":
        _LOG.warning("the learning rate decays towards the last step; the new number of steps changes its course")
    if training.objective.varies:
        _LOG.warning("the weighting changes towards the last step; the new number of steps changes its course")


def _extended(run: Run, spec: RunSpec, steps: int | None) -> RunSpec:
    reached = (run.checkpoint_steps() or [0])[-1]
    budget = spec.training.steps if steps is None else steps
    if budget == reached == spec.training.steps and run.status().state != "finished":
        return spec  # it was stopped between its last checkpoint and its final status
    if budget <= reached and _is_whole(run, reached):
        raise UsageError(
            f"run '{run.name}' is at step {reached} of {spec.training.steps}: there is nothing to do for "
            f"{budget} steps. Give a larger budget, for example: "
            f"debiasctl train --resume {run.typed} --steps {2 * reached or 1000}"
        )
    if budget < spec.training.steps:
        raise UsageError(
            f"run '{run.name}' has a budget of {spec.training.steps} steps, which cannot be lowered to {budget}. Give "
            "a larger budget"
        )
    return spec.model_copy(update={"training": spec.training.model_copy(update={"steps": budget})})


def _is_whole(run: Run, step: int) -> bool:
    try:
        verify(run.checkpoint_path(step), run)
    except CheckpointError:
        return False  # reported when an earlier one is loaded in its place
    return True


def _note_lost_checkpoint(run: Run) -> None:
    """Warn if the run had trained further than its last whole checkpoint."""
    reached, last = run.status().step, (run.checkpoint_steps() or [0])[-1]
    if reached > last:
        _LOG.warning(
            "run '%s' had reached step %d, but its last whole checkpoint is from step %d", run.name, reached, last
        )


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
