"""Snapshots of power-function averages, `ema/<step>.safetensors` in a run's folder, and their checksums."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from debiasctl.errors import CheckpointError
from debiasctl.files import atomic_file, sha256_file, write_json, writing
from debiasctl.models.ema import EMA, whole_state
from debiasctl.models.power_profiles import length_name
from debiasctl.runs.store import Run

_LENGTHS, _BUFFERS = "lengths", "buffers"
_WEIGHTS, _DESCRIPTION = ".safetensors", ".json"
_STEP = re.compile("[0-9]{8,12}")  # what the names of snapshots' files begin with


@dataclass(frozen=True)
class Snapshot:
    """A stored snapshot: all averages after `step` steps, each under its length's name, and the buffers."""

    path: Path
    step: int
    lengths: tuple[float, ...]
    sha256: str


@dataclass(frozen=True)
class CapturedSnapshot:
    """A snapshot in host memory: tensors by their names in the file."""

    step: int
    lengths: tuple[float, ...]
    tensors: Mapping[str, Tensor]


def folder_of(run: Run) -> Path:
    """Where a run keeps its snapshots and what was reconstructed from them; need not exist."""
    return run.path / "ema"


def capture_snapshot(ema: EMA, *, step: int) -> CapturedSnapshot:
    """Copy the averages after `step` steps to host memory; every process calls it, where weights are shared out."""
    if ema.spec.kind != "power":
        raise ValueError("snapshots are of power-function averages")
    tensors: dict[str, Tensor] = {}
    for length, average in zip(ema.spec.lengths, (ema.network, *ema.averages.values()), strict=True):
        state = whole_state(average)
        parameters = {name for name, _ in average.named_parameters()}
        tensors |= {f"{length_name(length)}/{name}": state[name] for name in state if name in parameters}
        tensors |= {f"{_BUFFERS}/{name}": state[name] for name in state if name not in parameters}
    held = {name: _host_copy(tensor) for name, tensor in tensors.items()}
    return CapturedSnapshot(step, ema.spec.lengths, held)


def _host_copy(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())


def write_snapshot(run: Run, captured: CapturedSnapshot) -> Path:
    """Store a snapshot; one of that step that is there is replaced.

    Its description comes last: without one, a file counts for nothing.

    Raises:
        DebiasctlError: it cannot be written.
    """
    path = folder_of(run) / f"{captured.step:08d}{_WEIGHTS}"
    about = {"step": captured.step, _LENGTHS: list(captured.lengths)}
    write_tensors(path, captured.tensors, about)
    return path


def save_snapshot(run: Run, ema: EMA, *, step: int) -> Path:
    """Capture and store a snapshot after `step` steps, in the one process that writes; see `write_snapshot`."""
    return write_snapshot(run, capture_snapshot(ema, step=step))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """Write tensors, and beside them what they are, with their checksum, which is returned."""
    # one entry, for safetensors writes several in any order, and equal runs are to have equal files
    data = safetensors_bytes(dict(tensors), metadata={"debiasctl": json.dumps(about, sort_keys=True)})
    with atomic_file(path) as stream:
        stream.write(data)
    checksum = hashlib.sha256(data).hexdigest()
    write_json(path.with_suffix(_DESCRIPTION), {**about, "sha256": checksum})
    return checksum


def snapshots(run: Run) -> list[Snapshot]:
    """The run's whole snapshots by their descriptions, oldest first.

    Raises:
        CheckpointError: a description cannot be read.
    """
    found = []
    for path in _files(run):
        if not path.with_suffix(_DESCRIPTION).exists():
            continue
        about = read_description(path, run)
        try:
            lengths = tuple(map(float, about[_LENGTHS]))
            if about["step"] != int(path.stem) or not lengths:
                raise ValueError(f"it describes step {about['step']}, lengths {list(lengths)}")
            found.append(Snapshot(path, int(path.stem), lengths, str(about["sha256"])))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(_damaged(path, run, f"{type(error).__name__}: {error}")) from error
    return found


def read_description(path: Path, run: Run) -> dict[str, Any]:
    """What stands beside a file of averages.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        about = json.loads(path.with_suffix(_DESCRIPTION).read_text(encoding="utf-8"))
        if not isinstance(about, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(_damaged(path.with_suffix(_DESCRIPTION), run, str(error))) from error
    return about


class SnapshotReader:
    """Reads the tensors of one snapshot, each when it is asked for."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = tensors
        self.names: list[str] = list(tensors.keys())

    def average(self, length: float) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors of a length's parameters."""
        return self._under(length_name(length))

    def buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Names and tensors of the buffers."""
        return self._under(_BUFFERS)

    def _under(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name in self.names:
            first, _, rest = name.partition("/")
            if first == prefix:
                yield rest, self._tensors.get_tensor(name)


@contextmanager
def open_snapshot(snapshot: Snapshot, run: Run) -> Iterator[SnapshotReader]:
    """A snapshot's tensors, once its file was held against its checksum.

    Raises:
        CheckpointError: the file is missing, cut short or changed.
    """
    verify_file(snapshot.path, run, sha256=snapshot.sha256)
    try:
        with safe_open(snapshot.path, framework="pt") as tensors:
            yield SnapshotReader(tensors)
    except SafetensorError as error:
        raise CheckpointError(_damaged(snapshot.path, run, str(error))) from error


def verify_file(path: Path, run: Run, *, sha256: str) -> None:
    """Raise CheckpointError where a file of averages is not the one that its checksum is of."""
    try:
        found = sha256_file(path)
    except OSError as error:
        raise CheckpointError(_damaged(path, run, str(error))) from error
    if found != sha256:
        raise CheckpointError(_damaged(path, run, "it differs from its checksum"))


def discard_snapshots_after(run: Run, step: int) -> None:
    """Remove snapshots of steps after `step`, all that was made of them, and what a kill left of one.

    A resume from that step writes them again; the caller holds the run's lock.
    """
    folder = folder_of(run)
    for path in _files(run):
        if int(path.stem) > step or not path.with_suffix(_DESCRIPTION).exists():
            _remove(path)
    for path in folder.glob(f"length-*{_DESCRIPTION}"):
        with suppress(CheckpointError, TypeError, ValueError):  # what is damaged is told of when it is wanted
            about = read_description(path, run)
            if int(about.get("last_snapshot", 0)) > step:
                _remove(path)
    for path in folder.glob(".[0-9]*.tmp"):
        with writing(path):
            path.unlink(missing_ok=True)


def _files(run: Run) -> list[Path]:
    """Where the run's snapshots lie, whole or not, oldest first."""
    names = {path.stem for path in folder_of(run).glob("[0-9]*") if _STEP.fullmatch(path.stem)}
    return [folder_of(run) / f"{name}{_WEIGHTS}" for name in sorted(names, key=int)]


def _remove(path: Path) -> None:
    """Remove a file of averages and its description, which goes first: without it, a file counts for nothing."""
    with writing(path):
        path.with_suffix(_DESCRIPTION).unlink(missing_ok=True)
        path.with_suffix(_WEIGHTS).unlink(missing_ok=True)


def _damaged(path: Path, run: Run, cause: str) -> str:
    return (
        f"{path} of run '{run.name}' is damaged ({cause}). Restore it from a copy; or remove "
        f"{path.with_suffix(_DESCRIPTION).name} and {path.with_suffix(_WEIGHTS).name} there to go without"
    )
