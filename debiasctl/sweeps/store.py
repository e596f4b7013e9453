"""Sweeps in the store, each a folder: the resolved study, what happened to its runs, and the report."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator

from debiasctl import claims, paths, temporaries
from debiasctl.errors import DebiasctlError, RunBusyError, RunError, RunNameError, UsageError
from debiasctl.files import atomic_folder, write_json, writing
from debiasctl.reading.documents import parse_json, read_json
from debiasctl.reading.regular import read_bytes
from debiasctl.registry.messages import damage
from debiasctl.runs.status import now
from debiasctl.runs.store import Run, validate_run_name
from debiasctl.specs.resolve import validate_spec
from debiasctl.specs.sections import RunSpec
from debiasctl.sweeps.plan import ARM_NAME, in_rounds, run_name
from debiasctl.temporaries import remove_stale
from debiasctl.wording import did_you_mean, quoted

SWEEP_VERSION: Final = 1
SWEEP, EVENTS, LOGS = "sweep.json", "events.jsonl", "logs"
STUDY, REPORT = "study.json", "report.html"
_LIMIT = 2**26  # bytes of a sweep's files


class _Part(BaseModel):
    """The base of the record's parts: frozen, complete and without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class StoredArm(_Part):
    """An arm: its name, its own settings as they were given, and the spec of its runs with seed 0."""

    name: str
    settings: dict[str, JsonValue]
    spec: dict[str, Any]

    def run_spec(self) -> RunSpec:
        """The spec of the arm's runs with seed 0."""
        return validate_spec(self.spec)


class StoredMeasures(_Part):
    """How every run is sampled and measured; see `study.Measures`."""

    steps: list[int] = Field(min_length=1)
    num: int = Field(ge=2)
    sampler: str
    features: str | None
    metrics: list[str] | None


class StoredSweep(_Part):
    """A resolved study. `looks` are the numbers of seeds at which the verdict is looked at, where that decides."""

    schema_version: Literal[1]
    created: str
    arms: list[StoredArm] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    evaluate: StoredMeasures
    primary: str | None
    reference: str
    margin: float = Field(gt=0, lt=1)
    looks: list[int] | None
    engine: str
    threads: int = Field(ge=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names, looks = [arm.name for arm in self.arms], self.looks
        if len(set(names)) < len(names):
            raise ValueError("two arms have one name")
        if not all(ARM_NAME.fullmatch(name) for name in names):
            raise ValueError("an arm has a name that is none")
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0 or max(self.seeds) >= 2**63:
            raise ValueError("the seeds are not different whole numbers from 0")
        if self.reference not in names:
            raise ValueError(f"the reference {quoted(self.reference)} is no arm")
        if min(self.evaluate.steps) < 1:
            raise ValueError("the sampling steps are not whole numbers from 1")
        if looks is not None and (not looks or looks[0] < 2 or looks != sorted(set(looks))):
            raise ValueError("the looks are not numbers of seeds from 2 that increase")
        return self

    def arm(self, name: str) -> StoredArm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)


@dataclass(frozen=True)
class SweepEvent:
    """Something that happened to a run of a sweep and that the run itself does not store."""

    run: str
    kind: Literal["failed", "measured"]
    time: str
    reason: str | None = None
    measures: str | None = None  # the key of what was measured


_EVENT = TypeAdapter(SweepEvent)


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder. Making one reads nothing."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def logs(self) -> Path:
        """The folder of its engine's logs."""
        return self.path / LOGS

    @property
    def report(self) -> Path:
        """The report, which is written with every answer."""
        return self.path / REPORT

    def stored(self) -> StoredSweep:
        """The resolved study.

        Raises:
            RunError: if it is missing, damaged, or was written by a newer version.
        """
        file = self.path / SWEEP
        try:
            raw = read_json(file, limit=_LIMIT)
            version = raw.get("schema_version")
            if type(version) is int and version > SWEEP_VERSION:
                raise RunError(
                    f"{file} was written by a newer version of debiasctl (sweep version {version}, known up to "
                    f"{SWEEP_VERSION}). Upgrade it: pip install --upgrade debiasctl"
                )
            stored = StoredSweep.model_validate(raw)
            for arm in stored.arms:
                arm.run_spec()
            return stored
        except OSError as error:
            raise RunError(f"{file} cannot be read: {error.strerror}. {self._way_on()}") from error
        except (ValidationError, ValueError, UsageError) as error:
            raise RunError(f"{file} is damaged: {damage(error)}. {self._way_on()}") from error

    def write(self, stored: StoredSweep) -> None:
        """Replace the resolved study."""
        write_json(self.path / SWEEP, stored.model_dump(mode="json"))

    def run(self, arm: str, seed: int) -> Run:
        """The run of an arm with a seed; it need not exist."""
        return Run(paths.runs_dir() / run_name(self.name, arm, seed))

    def runs(self, stored: StoredSweep) -> list[tuple[StoredArm, int, Run]]:
        """Every run, in the order in which they are trained."""
        return [(arm, seed, self.run(arm.name, seed)) for arm, seed in in_rounds(stored.arms, stored.seeds)]

    def events(self) -> list[SweepEvent]:
        """What happened, in order; a last line that a kill left partial is ignored.

        Raises:
            RunError: if another line cannot be read.
        """
        file = self.path / EVENTS
        try:
            data = read_bytes(file, limit=_LIMIT)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise RunError(f"{file} cannot be read: {error}. {self._way_on()}") from error
        events = []
        for number, line in enumerate(data.split(b"\n")[:-1], start=1):
            try:
                events.append(_EVENT.validate_python(parse_json(line)))
            except ValueError as error:
                raise RunError(f"{file} is damaged in line {number}: {damage(error)}. Delete the line") from error
        return events

    def note(self, event: SweepEvent) -> None:
        """Append an event; a partial last line is completed by the end of a line first."""
        file = self.path / EVENTS
        with writing(file), open(file, "a+b", buffering=0) as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":
                    _cut(stream)
            stream.write(json.dumps(vars(event)).encode() + b"\n")
            os.fsync(stream.fileno())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the sweep, as the one process that runs it, for the length of the block.

        Raises:
            RunBusyError: if another process runs it.
        """
        try:
            descriptor = claims.hold(self.path)
        except BlockingIOError as error:
            raise RunBusyError(
                f"sweep '{self.name}' is run by another process. Look on: debiasctl sweep watch {self.name}"
            ) from error
        try:
            yield
        finally:
            claims.release(descriptor)

    def is_running(self) -> bool:
        """Whether a living process runs it."""
        return claims.is_held(self.path)

    def _way_on(self) -> str:
        return f"Restore it from a copy, or remove the sweep, whose runs stay: debiasctl sweep rm {self.name}"


def create_sweep(name: str, stored: StoredSweep) -> Sweep:
    """Make a sweep's folder, whole or not at all.

    Raises:
        RunNameError: if the name is taken.
    """
    path = paths.sweeps_dir() / name
    remove_stale(path.parent)
    try:
        with atomic_folder(path) as folder:
            write_json(folder / SWEEP, stored.model_dump(mode="json"))
            (folder / LOGS).mkdir()
    except DebiasctlError as error:
        if isinstance(error.__cause__, OSError) and os.path.lexists(path):
            raise RunNameError(f"a sweep named '{name}' has just been made by another process") from error
        raise
    return Sweep(path)


def sweep_names() -> list[str]:
    """Names of all sweeps, sorted; nothing in them is read."""
    try:
        with os.scandir(paths.sweeps_dir()) as entries:
            return sorted(one.name for one in entries if one.is_dir() and not one.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{paths.sweeps_dir()} cannot be read: {error.strerror}. Make it readable") from error


def named_sweep(name: str) -> Sweep | None:
    """The sweep of that name; None if there is none.

    Raises:
        RunNameError: if no sweep may have that name.
    """
    try:
        validate_run_name(name)
    except RunNameError as error:
        raise RunNameError(str(error).replace("a run's name", "a sweep's name")) from error
    sweep = Sweep(paths.sweeps_dir() / name)
    return sweep if sweep.path.is_dir() else None


def find_sweep(name: str) -> Sweep:
    """The sweep of that name.

    Raises:
        RunNameError: if there is none.
    """
    found = named_sweep(name)
    if found is None:
        raise RunNameError(
            f"there is no sweep {quoted(name)}.{did_you_mean(name, sweep_names())} See: debiasctl sweep list"
        )
    return found


def remove_sweep(sweep: Sweep) -> None:
    """Remove a sweep's folder, but not its runs.

    Raises:
        RunBusyError: if a process runs it; RunError: if the folder is a link.
    """
    if sweep.path.is_symlink():
        raise RunError(f"{sweep.path} is a link. Remove the link or the folder that it names yourself")
    with sweep.lock(), writing(sweep.path):
        temporaries.discard(sweep.path)
    remove_stale(sweep.path.parent)


def failed(run: str, reason: str) -> SweepEvent:
    """That a run failed, now."""
    return SweepEvent(run, "failed", now(), reason=reason)


def measured(run: str, measures: str) -> SweepEvent:
    """That a run was measured, now."""
    return SweepEvent(run, "measured", now(), measures=measures)


def existing(runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that are in the store."""
    return [run for run in runs if run.path.is_dir()]


def _cut(stream: Any) -> None:
    """Shorten the file to end after its last newline."""
    stream.seek(0)
    stream.truncate(stream.read().rfind(b"\n") + 1)
