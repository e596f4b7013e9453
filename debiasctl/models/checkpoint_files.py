"""Checkpoint files: folders written atomically, with the checksum of every file in them."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from debiasctl import temporaries
from debiasctl.errors import CheckpointError, ForeignPartError
from debiasctl.files import atomic_folder, hashing_file, writing
from debiasctl.models.tensor_files import misfit, read_tensors
from debiasctl.runs.manifest import (
    EMA as EMA,
)
from debiasctl.runs.manifest import (
    RAW as RAW,
)
from debiasctl.runs.manifest import (
    STATE_FILE,
    WEIGHT_FILES,
    WEIGHTS_SUFFIX,
    Manifest,
    Weights,
    damage_of,
)
from debiasctl.runs.manifest import (
    verify as verify,
)
from debiasctl.runs.parts import CHECKPOINTS, MANIFEST
from debiasctl.runs.pins import unpinned
from debiasctl.runs.store import Run
from debiasctl.specs.sections import TrainingSection

_LEFTOVER = ".tmp"  # the suffix of a folder being written or removed; see files.atomic_folder


@dataclass(frozen=True)
class CheckpointState:
    """The contents of a checkpoint, in host memory.

    `weights` holds tensors by name for the network ("model"), its primary average ("ema") and any further averages
    ("ema-0.10"). `rest` holds tensors, numbers, strings and containers of them.
    """

    step: int
    weights: Mapping[str, Mapping[str, Tensor]]
    rest: Mapping[str, Any]


def write_checkpoint(run: Run, state: CheckpointState) -> Path:
    """Write a state as a checkpoint; weights that are one object take the space of one.

    An existing checkpoint of that step is kept if it is whole, and else replaced.

    Raises:
        DebiasctlError: if it cannot be written; no partial files remain.
    """
    run.check_lock()
    path = run.checkpoint_path(state.step)
    if _is_whole(path, run):
        return path
    sums: dict[str, str] = {}
    written: dict[int, str] = {}  # the file of a mapping of tensors, by its id
    with atomic_folder(path, replace=True) as folder:
        for kind, tensors in state.weights.items():
            name = f"{kind}{WEIGHTS_SUFFIX}"
            same = written.setdefault(id(tensors), name)
            if same in sums and _linked(folder / same, folder / name):
                sums[name] = sums[same]
                continue
            # serialised in memory first: safetensors' own writer hides the system's error, such as a full disk
            with hashing_file(folder / name) as file:
                file.write(safetensors_bytes({key: tensor.contiguous() for key, tensor in tensors.items()}))
            sums[name] = file.sha256()
        with hashing_file(folder / STATE_FILE) as file:
            torch.save(dict(state.rest), file)  # type: ignore[arg-type]  # it needs `write` and `flush` only
        sums[STATE_FILE] = file.sha256()
        with hashing_file(folder / MANIFEST) as file:
            file.write(Manifest(step=state.step, run=run.identity(), sha256=sums).to_bytes())
    return path


def read_weights(run: Run, *, step: int, weights: Weights) -> tuple[dict[str, Tensor], str]:
    """The EMA or raw weights of a checkpoint as their file holds them, and its SHA-256.

    Raises:
        CheckpointError: if the checkpoint is damaged.
    """
    path = run.checkpoint_path(step)
    try:
        sums = verify(path, run, only=WEIGHT_FILES[weights])
    except ForeignPartError:
        raise
    except CheckpointError as error:
        earlier = [other for other in run.checkpoint_steps() if other < step]
        way_on = f"Use an earlier one: `checkpoint={earlier[-1]}`" if earlier else "There is no earlier checkpoint"
        raise CheckpointError(f"{error}. {way_on}") from error
    try:
        return read_tensors(path / WEIGHT_FILES[weights]), sums[WEIGHT_FILES[weights]]
    except (OSError, ValueError) as error:
        raise CheckpointError(damage_of(path, run, f"{WEIGHT_FILES[weights]}: {error}")) from error


def load_weights(run: Run, network: nn.Module, *, step: int, weights: Weights) -> str:
    """Load the EMA or raw weights of a checkpoint into a network, and return their SHA-256.

    Raises:
        CheckpointError: if the checkpoint is damaged or does not fit the network.
    """
    tensors, checksum = read_weights(run, step=step, weights=weights)
    problem = misfit(tensors, network.state_dict())
    if problem:
        raise CheckpointError(f"checkpoint {step} of run '{run.name}' does not fit its spec: {problem}")
    network.load_state_dict(tensors)
    return checksum


def prune_checkpoints(run: Run, spec: TrainingSection, *, newest: int) -> None:
    """Remove all checkpoints up to step `newest` but the last `keep_last` and those that `keep_steps` names.

    One that another process has pinned stays. Later checkpoints, which are damaged if training resumed from an earlier
    one, do not count towards `keep_last`.
    """
    run.check_lock()
    steps = [step for step in run.checkpoint_steps() if step <= newest]
    for step in steps[: -spec.keep_last]:
        if step not in spec.keep_steps:
            path = run.checkpoint_path(step)
            with unpinned(path) as free, writing(path):
                if free:  # what is being read goes when a later checkpoint is written
                    temporaries.discard(path)


def remove_leftovers(run: Run) -> None:
    """Remove partial checkpoints, and partial files beside them, that a process killed while writing left behind.

    The caller holds the run's lock.
    """
    for folder in (run.path, run.path / CHECKPOINTS):
        for path in folder.glob(f".*{_LEFTOVER}"):
            with writing(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _linked(file: Path, name: Path) -> bool:
    """Give a file a second name, which takes no space; False if the file system knows no such names."""
    try:
        os.link(file, name)
    except OSError:
        return False
    return True


def _is_whole(path: Path, run: Run) -> bool:
    if not path.exists():
        return False
    try:
        verify(path, run)
    except ForeignPartError:
        raise
    except CheckpointError:
        return False
    return True
