"""Snapshots of power-function averages, `ema/<step>.safetensors` in a run's folder, and their checksums."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from debiasctl.errors import CheckpointError
from debiasctl.files import atomic_file, sha256_file, write_json, writing
from debiasctl.models.ema import EMA, whole_state
from debiasctl.models.power_profiles import length_name
from debiasctl.reading.documents import read_json
from debiasctl.registry.messages import damage
from debiasctl.runs import parts
from debiasctl.runs.store import Run
from debiasctl.wording import one_line

_BUFFERS = "buffers"
_WEIGHTS, _DESCRIPTION = ".safetensors", ".json"
_CHECKSUM = "sha256"  # of the file of averages, the last key of its description
_RUN = "run"  # the run's identity, the key before; neither is in the file itself, so that equal runs have equal files
_STEP = re.compile("[0-9]{8,12}")  # the stem of a snapshot's file name


class _Description(BaseModel):
    """What a file of averages holds; it is stored beside the file, with the file's checksum."""

    model_config = ConfigDict(frozen=True, strict=True)


D = TypeVar("D", bound=_Description)


class SnapshotDescription(_Description):
    """The step and the lengths of a snapshot's averages."""

    step: int = Field(ge=0)
    lengths: list[Annotated[float, Field(gt=0, lt=0.3)]] = Field(min_length=1)


class AverageDescription(_Description):
    """An average that was reconstructed from snapshots, the last of them of step `last_snapshot`.

    `key` is the same for averages of one length and step from the same snapshots.
    """

    length: float
    step: int
    last_snapshot: int
    num_snapshots: int
    residual: float
    key: str


@dataclass(frozen=True)
class Snapshot:
    """A stored snapshot, which holds all averages after `step` steps, each under its length's name, and the buffers."""

    path: Path
    step: int
    lengths: tuple[float, ...]
    sha256: str


@dataclass(frozen=True)
class CapturedSnapshot:
    """A snapshot in host memory, as tensors by their names in the file."""

    step: int
    lengths: tuple[float, ...]
    tensors: Mapping[str, Tensor]


def folder_of(run: Run) -> Path:
    """The folder for a run's snapshots and the averages reconstructed from them; it need not exist."""
    return run.path / parts.EMA


def capture_snapshot(ema: EMA, *, step: int) -> CapturedSnapshot:
    """Copy the averages after `step` steps to host memory; every process calls this if the weights are sharded."""
    if ema.spec.kind != "power":
        raise ValueError("only power-function averages have snapshots")
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
    """Store a snapshot, replacing an existing one of that step.

    Its description is written last: a file without one is ignored.

    Raises:
        DebiasctlError: if it cannot be written.
    """
    path = folder_of(run) / f"{captured.step:08d}{_WEIGHTS}"
    about = SnapshotDescription(step=captured.step, lengths=list(captured.lengths))
    write_tensors(path, captured.tensors, about, run=run)
    return path


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], about: SnapshotDescription | AverageDescription, *, run: Run
) -> str:
    """Write tensors and, beside them, their description, the run's identity and their checksum, which is returned."""
    run.check_lock()
    described = about.model_dump(mode="json")
    # one entry, because safetensors writes several in any order, and equal runs should have equal files
    data = safetensors_bytes(dict(tensors), metadata={"debiasctl": json.dumps(described, sort_keys=True)})
    with atomic_file(path) as stream:
        stream.write(data)
    checksum, owner = hashlib.sha256(data).hexdigest(), run.identity()
    write_json(path.with_suffix(_DESCRIPTION), {**described, **({_RUN: owner} if owner else {}), _CHECKSUM: checksum})
    return checksum


def snapshots(run: Run) -> list[Snapshot]:
    """List the run's complete snapshots, which are those with a description, oldest first.

    Raises:
        CheckpointError: if a description cannot be read.
    """
    found = []
    for path in _files(run):
        if not path.with_suffix(_DESCRIPTION).exists():
            continue
        about, checksum = read_description(path, run, SnapshotDescription)
        if about.step != int(path.stem):
            raise CheckpointError(_damaged(path, run, f"it describes step {about.step}"))
        found.append(Snapshot(path, about.step, tuple(about.lengths), checksum))
    return found


def read_description(path: Path, run: Run, kind: type[D]) -> tuple[D, str]:
    """Read the description beside a file of averages, and the file's checksum.

    Raises:
        CheckpointError: if it cannot be read; ForeignPartError: if it is another run's.
    """
    try:
        raw = read_json(path.with_suffix(_DESCRIPTION))
        checksum = raw.pop(_CHECKSUM, None)
        if not isinstance(checksum, str):
            raise ValueError(f"{_CHECKSUM} is missing or not text")
        run.check_identity(raw.pop(_RUN, None), what=f"the average in {path}", way_on="Move both of its files away")
        return kind.model_validate(raw), checksum
    except (OSError, ValueError) as error:
        raise CheckpointError(_damaged(path.with_suffix(_DESCRIPTION), run, damage(error))) from error


class SnapshotReader:
    """Reads the tensors of one snapshot one by one."""

    def __init__(self, tensors: Any) -> None:
        self._tensors = tensors
        self.names: list[str] = list(tensors.keys())

    def average(self, length: float) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and tensors of a length's parameters."""
        return self._under(length_name(length))

    def buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the names and tensors of the buffers."""
        return self._under(_BUFFERS)

    def _under(self, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name in self.names:
            first, _, rest = name.partition("/")
            if first == prefix:
                yield rest, self._tensors.get_tensor(name)


@contextmanager
def open_snapshot(snapshot: Snapshot, run: Run) -> Iterator[SnapshotReader]:
    """Open a snapshot's tensors after verifying its file's checksum.

    Raises:
        CheckpointError: if the file is missing, truncated or changed.
    """
    verify_file(snapshot.path, run, sha256=snapshot.sha256)
    try:
        with safe_open(snapshot.path, framework="pt") as tensors:
            yield SnapshotReader(tensors)
    except (SafetensorError, RuntimeError, TypeError) as error:  # those of tensors that do not fit one another, too
        raise CheckpointError(_damaged(snapshot.path, run, one_line(error))) from error


def verify_file(path: Path, run: Run, *, sha256: str) -> None:
    """Raise CheckpointError if a file of averages does not match its checksum."""
    try:
        found = sha256_file(path)
    except OSError as error:
        raise CheckpointError(_damaged(path, run, str(error))) from error
    if found != sha256:
        raise CheckpointError(_damaged(path, run, "it differs from its checksum"))


def discard_snapshots_after(run: Run, step: int) -> None:
    """Remove snapshots after `step`, the averages reconstructed from them, and partial files that a kill left behind.

    A resume from that step writes them again; the caller holds the run's lock.
    """
    folder = folder_of(run)
    for path in _files(run):
        if int(path.stem) > step or not path.with_suffix(_DESCRIPTION).exists():
            _remove(path)
    for path in folder.glob(f"length-*{_DESCRIPTION}"):
        with suppress(CheckpointError):  # a damaged file is reported when it is read
            about, _ = read_description(path, run, AverageDescription)
            if about.last_snapshot > step:
                _remove(path)
    for path in folder.glob(".[0-9]*.tmp"):
        with writing(path):
            path.unlink(missing_ok=True)


def _files(run: Run) -> list[Path]:
    """The paths of the run's snapshots, complete or not, oldest first."""
    names = {path.stem for path in folder_of(run).glob("[0-9]*") if _STEP.fullmatch(path.stem)}
    return [folder_of(run) / f"{name}{_WEIGHTS}" for name in sorted(names, key=int)]


def _remove(path: Path) -> None:
    """Remove a file of averages and, before it, its description: a file without one is ignored."""
    with writing(path):
        path.with_suffix(_DESCRIPTION).unlink(missing_ok=True)
        path.with_suffix(_WEIGHTS).unlink(missing_ok=True)


def _damaged(path: Path, run: Run, cause: str) -> str:
    return (
        f"{path} of run '{run.name}' is damaged ({cause}). Restore it from a copy; or remove "
        f"{path.with_suffix(_DESCRIPTION).name} and {path.with_suffix(_WEIGHTS).name} there to continue without it"
    )
