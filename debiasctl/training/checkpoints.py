"""Checkpoints: folders that appear whole, written in the background, with the checksum of every file in them."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import torch
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import nn

from debiasctl.errors import CheckpointError
from debiasctl.files import atomic_folder, hashing_file, sha256_file, writing
from debiasctl.runs import Run
from debiasctl.specs import TrainingSection
from debiasctl.training.setup import Training
from debiasctl.training.state import EMA, RAW, CheckpointState, HostMemory, capture, restore

_LOG = logging.getLogger(__name__)
MANIFEST = "manifest.json"
Weights = Literal["ema", "raw"]
_WEIGHTS = ".safetensors"
WEIGHT_FILES: Mapping[Weights, str] = {"ema": f"{EMA}{_WEIGHTS}", "raw": f"{RAW}{_WEIGHTS}"}
_STATE = "state.pt"
_FURTHER = re.compile(r"ema-[0-9]{1,6}(\.[0-9]{1,6})?\.safetensors")  # further averages
_LEFTOVER = ".tmp"  # ending of what is being written or removed; see files.atomic_folder


class CheckpointWriter:
    """Writes a run's checkpoints in the background and then removes those that are not kept; a context manager.

    `save` takes the time of a copy to host memory. What goes wrong in the background is raised, once, by whatever is
    called next: `check` (at every step), `save`, `wait`, or the end of the context.
    """

    def __init__(self, run: Run, spec: TrainingSection) -> None:
        self._run, self._spec = run, spec
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._others: list[Future[Any]] = []
        self._memory = HostMemory()
        self._last: int | None = None

    def save(self, training: Training, *, step: int, progress: Mapping[str, float]) -> None:
        """Copy the state after `step` steps and begin to write it, once the last one is written; see `capture`.

        Every process has to call it; the main process writes. A second call for one step does nothing.

        Raises:
            DebiasctlError: the checkpoint before could not be written.
        """
        if self._pending is not None:
            self._pending.exception()  # waits: its memory is needed
        self.check()
        if step == self._last:
            return
        self._last = step
        state = capture(training, step=step, progress=progress, memory=self._memory)
        if state is not None:
            self._pending = self._worker.submit(self._write, state, list(self._others))

    def submit(self, task: Callable[[], object]) -> None:
        """Have something else written, in its turn; a later checkpoint is not written if this fails."""
        self._others.append(self._worker.submit(task))

    def check(self) -> None:
        """Raise what went wrong with a write that has ended; waits for nothing."""
        if any(write.done() and write.exception() is not None for write in self._writes):
            self.wait()
        self._others = [write for write in self._others if not write.done()]
        if self._pending is not None and self._pending.done():
            self._pending = None

    def wait(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            DebiasctlError: it could not be written; nothing of it is left behind, and earlier checkpoints are whole.
        """
        writes = self._writes
        for write in writes:
            write.exception()  # waits; an interrupted wait leaves the writes pending
        self._others, self._pending = [], None
        for write in writes:
            write.result()

    @property
    def _writes(self) -> list[Future[Any]]:
        return [*self._others, *([] if self._pending is None else [self._pending])]

    def _write(self, state: CheckpointState, before: Sequence[Future[Any]]) -> None:
        for write in before:
            write.result()
        write_checkpoint(self._run, state)
        prune_checkpoints(self._run, self._spec, newest=state.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the write in progress, whatever has happened: the run is locked no longer than until here."""
        try:
            self.wait()
        except Exception as failed:
            if error is None:
                raise
            _LOG.warning("note: %s", failed)  # the error is what ended the context
        finally:
            self._worker.shutdown()


def save_checkpoint(run: Run, training: Training, *, step: int, progress: Mapping[str, float]) -> None:
    """Write the state after `step` steps, now: see `capture` and `write_checkpoint`."""
    state = capture(training, step=step, progress=progress)
    if state is not None:
        write_checkpoint(run, state)


def write_checkpoint(run: Run, state: CheckpointState) -> Path:
    """Write a state as a checkpoint. One of that step that is there is kept where it is whole, else replaced.

    Raises:
        DebiasctlError: it cannot be written; nothing is left behind.
    """
    path = run.checkpoint_path(state.step)
    if _is_whole(path, run):
        return path
    sums: dict[str, str] = {}
    with atomic_folder(path, replace=True) as folder:
        for name, tensors in state.weights.items():
            # written from memory: safetensors' own writer hides the system's reason, such as a full disk
            with hashing_file(folder / f"{name}{_WEIGHTS}") as file:
                file.write(safetensors_bytes({key: tensor.contiguous() for key, tensor in tensors.items()}))
            sums[f"{name}{_WEIGHTS}"] = file.sha256()
        with hashing_file(folder / _STATE) as file:
            torch.save(dict(state.rest), file)  # type: ignore[arg-type]  # it asks for `write` and `flush` alone
        sums[_STATE] = file.sha256()
        with hashing_file(folder / MANIFEST) as file:
            file.write((json.dumps({"step": state.step, "sha256": sums}, indent=2) + "\n").encode())
    return path


def load_last(run: Run, training: Training) -> tuple[int, dict[str, float]] | None:
    """Put a training back to its run's last whole checkpoint: (step, running sums); None where there never was one.

    Damaged ones are told of and left where they are, until training reaches their step and writes them anew.

    Raises:
        CheckpointError: all are damaged, or one does not fit the run's spec.
    """
    causes: list[str] = []
    for step in reversed(run.checkpoint_steps()):
        try:
            names = verify(run.checkpoint_path(step), run)
        except CheckpointError as error:
            causes.append(str(error))
            continue
        if training.accelerator.is_main_process:
            for cause in causes:
                _LOG.warning("note: %s. Going on from checkpoint %d, and writing it anew", cause, step)
        return step, _load(run, training, step=step, names=names)
    if not causes:
        return None
    raise CheckpointError(
        "\n".join(causes) + f"\nNo checkpoint of run '{run.name}' is whole. Restore one from a copy, or start anew: "
        f"debiasctl runs rm {run.name}"
    )


def _load(run: Run, training: Training, *, step: int, names: Mapping[str, str]) -> dict[str, float]:
    """Load the files `names` of a checkpoint that was verified."""
    path = run.checkpoint_path(step)
    try:
        weights = {name.removesuffix(_WEIGHTS): load_file(path / name) for name in names if name.endswith(_WEIGHTS)}
        rest: dict[str, Any] = torch.load(path / _STATE, weights_only=True, map_location="cpu")
        return restore(training, CheckpointState(step, weights, rest))
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"checkpoint {step} of run '{run.name}' does not fit its spec: {error}") from error


def load_weights(run: Run, network: nn.Module, *, step: int, weights: Weights) -> str:
    """Load the EMA's or the raw weights of a checkpoint into a network; returns their SHA-256.

    Raises:
        CheckpointError: the checkpoint is damaged or does not fit the network.
    """
    path = run.checkpoint_path(step)
    try:
        sums = verify(path, run, only=WEIGHT_FILES[weights])
    except CheckpointError as error:
        earlier = [other for other in run.checkpoint_steps() if other < step]
        way_on = f"Use an earlier one: --checkpoint {earlier[-1]}" if earlier else "There is no earlier checkpoint"
        raise CheckpointError(f"{error}. {way_on}") from error
    try:
        network.load_state_dict(load_file(path / WEIGHT_FILES[weights]))
    except RuntimeError as error:
        raise CheckpointError(f"checkpoint {step} of run '{run.name}' does not fit its spec: {error}") from error
    return sums[WEIGHT_FILES[weights]]


def verify(path: Path, run: Run, only: str | None = None) -> dict[str, str]:
    """The checksums that a checkpoint states, by file, after holding its files (or one of them) against them.

    Raises:
        CheckpointError: a file is missing, cut short or changed; the message names it.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        sums: dict[str, str] = manifest["sha256"]
        # an imported manifest could name any file
        if {*WEIGHT_FILES.values(), _STATE} != {name for name in sums if not _FURTHER.fullmatch(name)}:
            raise ValueError(f"{MANIFEST} does not name the files of a checkpoint")
        if manifest["step"] != int(path.name):
            raise ValueError(f"{MANIFEST} is of step {manifest['step']}")
        damaged = [
            name for name, expected in sums.items() if only in (None, name) and sha256_file(path / name) != expected
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(_damaged(path, run, f"{type(error).__name__}: {error}")) from error
    if damaged:
        raise CheckpointError(_damaged(path, run, f"{', '.join(damaged)} differs from its checksum"))
    return sums


def prune_checkpoints(run: Run, spec: TrainingSection, *, newest: int) -> None:
    """Of the checkpoints up to step `newest`, remove all but the last `keep_last` and those that `keep_steps` chose.

    Later ones are damaged, where training goes on behind them, and are not to take the place of whole ones.
    """
    steps = [step for step in run.checkpoint_steps() if step <= newest]
    for step in steps[: -spec.keep_last]:
        if step not in spec.keep_steps:
            path = run.checkpoint_path(step)
            # renamed first, so that a kill in between leaves no half of a checkpoint
            removed = path.with_name(f".{path.name}{_LEFTOVER}")
            with writing(path):
                os.replace(path, removed)
                shutil.rmtree(removed)


def remove_leftovers(run: Run) -> None:
    """Remove what a kill in the middle of writing left: of checkpoints, and of the files beside them.

    The caller holds the run's lock.
    """
    for folder in (run.path, run.path / "checkpoints"):
        for path in folder.glob(f".*{_LEFTOVER}"):
            with writing(path):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_whole(path: Path, run: Run) -> bool:
    if not path.exists():
        return False
    try:
        verify(path, run)
    except CheckpointError:
        return False
    return True


def _damaged(path: Path, run: Run, cause: str) -> str:
    return f"checkpoint {int(path.name)} of run '{run.name}' is damaged ({cause}): {path}"
