"""A training from its spec to its run's folder: what `debiasctl train` does, without a command line."""

import logging
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from itertools import chain

import torch

from debiasctl import registry
from debiasctl.api import DataLocation, LoadedDataset
from debiasctl.choices import with_nested
from debiasctl.errors import DataError, RunError, UsageError
from debiasctl.files import write_json
from debiasctl.runs import Run, create_run, new_status, read_metrics
from debiasctl.specs import ContentSection, ProvenanceSection, RunSpec
from debiasctl.training.checkpoints import remove_leftovers, verify_last
from debiasctl.training.loop import Progress, fit
from debiasctl.training.setup import make_accelerator, set_up

_LOG = logging.getLogger(__name__)
_PACKAGES = ("debiasctl", "torch", "accelerate", "numpy", "pydantic", "safetensors")
OnProgress = Callable[[Progress], None]


def start(
    spec: RunSpec,
    location: DataLocation,
    *,
    name: str | None,
    device: str,
    on_start: Callable[[Run, RunSpec, int], None],
    on_progress: OnProgress,
) -> Run:
    """Make a run from a resolved spec and train it; `on_start(run, spec, parameters)` comes before the first step.

    Raises:
        DataError: the data cannot be read, or are not those that the spec was made for; RunNameError: the name is
        taken; and what `fit` raises.
    """
    accelerator = make_accelerator(device)
    _refuse_several(accelerator.num_processes)
    data = load_data(spec, location)
    spec = spec.model_copy(update={"content": content_section(data), "provenance": provenance()})
    training = set_up(spec, data, accelerator=accelerator)
    status = new_status(
        num_steps=spec.training.steps,
        dataset=spec.data.dataset.name,
        weighting=spec.loss.weighting.name,
        seed=spec.training.seed,
    )
    run = create_run(name, spec, status=status)
    with run.lock():
        on_start(run, spec, _size(training.network))
        fit(run, training, data, on_progress=on_progress)
    return run


def resume(
    run: Run,
    location: DataLocation,
    *,
    steps: int | None,
    device: str,
    on_start: Callable[[Run, RunSpec, int], None],
    on_progress: OnProgress,
) -> Run:
    """Go on with a run from its last checkpoint, to a larger budget where `steps` gives one.

    Raises:
        UsageError: the run is already at its budget, or the budget is not larger; RunBusyError: another process is
        training it; DataError: the data are not those that it was trained on.
    """
    accelerator = make_accelerator(device)
    _refuse_several(accelerator.num_processes)
    with run.lock():
        spec = run.spec()
        _check_plugins(run, spec)
        spec = _extended(run, spec, steps)
        data = load_data(spec, location)
        training = set_up(spec, data, accelerator=accelerator)
        verify_last(run)  # and the metrics: a damaged run is told of, and stays as it was
        read_metrics(run)
        remove_leftovers(run)
        _note_lost_checkpoint(run)
        if steps is not None:
            if spec.optimizer.decay != "none":
                _LOG.warning("note: the learning rate decays towards the last step; with this one its course changes")
            if training.objective.varies:
                _LOG.warning("note: the weighting changes towards the last step; with this one its course changes")
            write_json(run.path / "spec.json", spec.model_dump(mode="json"))
        on_start(run, spec, _size(training.network))
        fit(run, training, data, on_progress=on_progress)
    return run


def load_data(spec: RunSpec, location: DataLocation) -> LoadedDataset:
    """The spec's data set.

    Raises:
        DataError: its content is not what the spec states.
    """
    data: LoadedDataset = registry.create("datasets", spec.data.dataset.ref).load(location)
    if not len(data.train) or not len(data.heldout):
        empty = "training" if not len(data.train) else "held-out"
        raise DataError(f"data set '{spec.data.dataset.name}' has no {empty} images; both splits need some")
    if spec.content and data.content_hash != spec.content.content_hash:
        raise DataError(
            f"the images of data set '{spec.data.dataset.name}' are not those that this spec was made for "
            f"(SHA-256 {data.content_hash[:12]}…, not {spec.content.content_hash[:12]}…). Restore them; or, for a new "
            "run on these images, remove the section 'content' from the spec file"
        )
    return data


def content_section(data: LoadedDataset) -> ContentSection:
    """What a spec states of its data."""
    info = data.info
    counts: list[int] = []
    if info.classes:
        labels = data.train.labels(torch.arange(len(data.train)))
        assert labels is not None, "a data set with classes has labels"
        counts = torch.bincount(labels, minlength=len(info.classes)).tolist()
    return ContentSection(
        image_size=info.image_size,
        channels=info.channels,
        classes=info.classes,
        class_counts=tuple(counts),
        num_train=len(data.train),
        num_heldout=len(data.heldout),
        content_hash=data.content_hash,
    )


def provenance() -> ProvenanceSection:
    """Versions and commit that a run is made with."""
    packages: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "unknown"
    return ProvenanceSection(packages=packages, python=platform.python_version(), git_commit=_git_commit())


def _git_commit() -> str | None:
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _extended(run: Run, spec: RunSpec, steps: int | None) -> RunSpec:
    reached = (run.checkpoint_steps() or [0])[-1]
    budget = spec.training.steps if steps is None else steps
    if budget == reached == spec.training.steps and run.status().state != "finished":
        return spec  # it was stopped between its last checkpoint and its last word
    if budget <= reached:
        raise UsageError(
            f"run '{run.name}' is at step {reached} of {spec.training.steps}: there is nothing to do for "
            f"{budget} steps. Give a larger budget, for example: "
            f"debiasctl train --resume {run.name} --steps {2 * reached or 1000}"
        )
    if budget < spec.training.steps:
        raise UsageError(
            f"run '{run.name}' has a budget of {spec.training.steps} steps; it can be raised, not lowered to {budget}"
        )
    return spec.model_copy(update={"training": spec.training.model_copy(update={"steps": budget})})


def _note_lost_checkpoint(run: Run) -> None:
    """Say so where the run has been further than its last whole checkpoint."""
    reached, last = run.status().step, (run.checkpoint_steps() or [0])[-1]
    if reached > last:
        _LOG.warning(
            "note: run '%s' has been at step %d, and its last whole checkpoint is of step %d", run.name, reached, last
        )


def _check_plugins(run: Run, spec: RunSpec) -> None:
    """Refuse to go on with a plugin of another distribution than the run began with, and say where versions differ."""
    choices = {
        "datasets": [spec.data.dataset],
        "backbones": [spec.model.backbone],
        "schedules": [spec.diffusion.schedule],
        "weightings": [spec.loss.weighting],
        "timesteps": [spec.loss.timesteps],
        "extensions": list(spec.extensions),
    }
    for kind, chosen in choices.items():
        for choice in chain.from_iterable(map(with_nested, chosen)):
            record = registry.find(kind, choice.name)
            begun, now = f"{choice.distribution} {choice.version}", f"{record.distribution} {record.version}"
            if choice.distribution not in (None, record.distribution):
                raise RunError(
                    f"run '{run.name}' was trained with {kind.removesuffix('s')} '{choice.name}' of {begun}, and here "
                    f"it is {now}'s. Install {choice.distribution} in its place to go on"
                )
            if choice.version not in (None, record.version):
                _LOG.warning(
                    "note: %s '%s' was of %s when run '%s' began and is of %s now",
                    kind.removesuffix("s"), choice.name, begun, run.name, now,
                )  # fmt: skip


def _refuse_several(num_processes: int) -> None:
    if num_processes > 1:
        raise RunError(
            f"{num_processes} processes were started; this version of debiasctl trains with one. Start one process"
        )


def _size(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
