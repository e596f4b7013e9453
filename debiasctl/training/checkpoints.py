"""Checkpoints: folders that appear whole, with the checksum of every file in them."""

import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from debiasctl.errors import CheckpointError
from debiasctl.files import atomic_folder, sha256_file, writing
from debiasctl.runs import Run
from debiasctl.specs import TrainingSection
from debiasctl.training.setup import Training

MANIFEST = "manifest.json"
Weights = Literal["ema", "raw"]
_FILES: Mapping[Weights, str] = {"ema": "ema.safetensors", "raw": "model.safetensors"}
_STATE = "state.pt"
_LEFTOVER = ".tmp"  # ending of what is being written or removed; see files.atomic_folder


def save_checkpoint(run: Run, training: Training, *, step: int, progress: Mapping[str, float]) -> Path:
    """Write the state after `step` steps: weights, their EMA, the optimizer's and the extensions' state.

    `progress` holds the loop's own running sums. A checkpoint of that step that is there already is kept.

    Raises:
        DebiasctlError: it cannot be written; nothing is left behind.
    """
    path = run.checkpoint_path(step)
    if (path / MANIFEST).is_file():
        return path
    with writing(path):
        if path.exists():  # a removal that was cut short left it
            shutil.rmtree(path)
    with atomic_folder(path) as folder:
        # written from memory: the libraries' own writers hide the system's reason, such as a full disk
        (folder / _FILES["raw"]).write_bytes(safetensors_bytes(_tensors(training.network)))
        (folder / _FILES["ema"]).write_bytes(safetensors_bytes(_tensors(training.ema.network)))
        state = {
            "step": step,
            "progress": dict(progress),
            "optimizer": training.optimizer.state_dict(),
            "extensions": [extension.state_dict() for extension in training.extensions],
            "weighting": _learned_state(training),
            "timesteps": _distribution_state(training),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        (folder / _STATE).write_bytes(buffer.getbuffer())
        sums = {file.name: sha256_file(file) for file in sorted(folder.iterdir())}
        (folder / MANIFEST).write_text(json.dumps({"step": step, "sha256": sums}, indent=2) + "\n")
    return path


def load_checkpoint(run: Run, training: Training, *, step: int) -> dict[str, float]:
    """Put a training back to where a checkpoint was written; returns the loop's running sums.

    Raises:
        CheckpointError: the checkpoint is damaged or does not fit the run's spec.
    """
    path = run.checkpoint_path(step)
    verify(path, run)
    try:
        training.network.load_state_dict(load_file(path / _FILES["raw"]))
        training.ema.network.load_state_dict(load_file(path / _FILES["ema"]))
        state: dict[str, Any] = torch.load(path / _STATE, weights_only=True, map_location="cpu")
        training.optimizer.load_state_dict(state["optimizer"])
        for extension, saved in zip(training.extensions, state["extensions"], strict=True):
            extension.load_state_dict(saved)
        if training.learned is not None:
            training.accelerator.unwrap_model(training.learned.module).load_state_dict(state["weighting"]["module"])
            training.learned.optimizer.load_state_dict(state["weighting"]["optimizer"])
        if training.objective.observes:
            training.objective.distribution.load_state_dict(state["timesteps"])  # type: ignore[attr-defined]
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint {step} of run '{run.name}' does not fit its spec: {error}") from error
    return dict(state["progress"])


def load_weights(run: Run, network: nn.Module, *, step: int, weights: Weights) -> str:
    """Load the EMA's or the raw weights of a checkpoint into a network; returns their SHA-256.

    Raises:
        CheckpointError: the checkpoint is damaged or does not fit the network.
    """
    path = run.checkpoint_path(step)
    sums = verify(path, run, only=_FILES[weights])
    try:
        network.load_state_dict(load_file(path / _FILES[weights]))
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {step} of run '{run.name}' does not fit its spec: {error}") from error
    return sums[_FILES[weights]]


def verify(path: Path, run: Run, only: str | None = None) -> dict[str, str]:
    """The checksums that a checkpoint states, after holding its files (or one of them) against them.

    Raises:
        CheckpointError: a file is missing, cut short or changed; the message says how to go on.
    """
    try:
        sums: dict[str, str] = json.loads((path / MANIFEST).read_text())["sha256"]
        if set(sums) != {*_FILES.values(), _STATE}:  # an imported manifest could name any file
            raise ValueError(f"{MANIFEST} does not name the files of a checkpoint")
        damaged = [
            name for name, expected in sums.items() if only in (None, name) and sha256_file(path / name) != expected
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(_damaged(path, run, f"{type(error).__name__}: {error}")) from error
    if damaged:
        raise CheckpointError(_damaged(path, run, f"{', '.join(damaged)} differs from its checksum"))
    return sums


def verify_last(run: Run) -> None:
    """Hold the run's last checkpoint, where it has one, against its checksums.

    Raises:
        CheckpointError: see `verify`.
    """
    for step in run.checkpoint_steps()[-1:]:
        verify(run.checkpoint_path(step), run)


def choose_step(run: Run, text: str | None) -> int:
    """The checkpoint that `text` names (a step, or None for the last).

    Raises:
        CheckpointError: the run has none, or not that one.
    """
    steps = run.checkpoint_steps()
    if not steps:
        raise CheckpointError(
            f"run '{run.name}' has no checkpoint. Train it first: debiasctl train --resume {run.name}"
        )
    if text is None or text == "last":
        return steps[-1]
    if not text.isdigit() or int(text) not in steps:
        known = ", ".join(map(str, steps))
        raise CheckpointError(f"run '{run.name}' has no checkpoint '{text}'. It has: {known} (or 'last')")
    return int(text)


def prune_checkpoints(run: Run, spec: TrainingSection) -> None:
    """Remove all but the newest `keep_last` checkpoints and those that `keep_steps` chose."""
    for step in run.checkpoint_steps()[: -spec.keep_last]:
        if step not in spec.keep_steps:
            path = run.checkpoint_path(step)
            # renamed first, so that a kill in between leaves no half of a checkpoint
            removed = path.with_name(f".{path.name}{_LEFTOVER}")
            with writing(path):
                os.replace(path, removed)
                shutil.rmtree(removed)


def remove_leftovers(run: Run) -> None:
    """Remove what a kill in the middle of writing or removing a checkpoint left; the caller holds the run's lock."""
    folder = run.path / "checkpoints"
    for path in folder.glob(f".*{_LEFTOVER}"):
        with writing(path):
            shutil.rmtree(path)


def _damaged(path: Path, run: Run, cause: str) -> str:
    earlier = [step for step in run.checkpoint_steps() if step < int(path.name)]
    way_on = (
        f"Remove that folder to go on from checkpoint {earlier[-1]}" if earlier else "There is no earlier checkpoint"
    )
    return f"checkpoint {int(path.name)} of run '{run.name}' is damaged ({cause}): {path}. {way_on}"


def _learned_state(training: Training) -> dict[str, Any] | None:
    """What a learned weighting has learned, and its optimizer's state."""
    if training.learned is None:
        return None
    module = training.accelerator.unwrap_model(training.learned.module)
    return {"module": module.state_dict(), "optimizer": training.learned.optimizer.state_dict()}


def _distribution_state(training: Training) -> dict[str, Any] | None:
    """What a distribution of t has seen."""
    if not training.objective.observes:
        return None
    return dict(training.objective.distribution.state_dict())  # type: ignore[attr-defined]


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
