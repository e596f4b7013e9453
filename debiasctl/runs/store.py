"""The run store: one folder a run, made and replaced atomically, read without writing."""

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl import paths
from debiasctl.errors import DebiasctlError, ForeignPartError, RunError, RunNameError
from debiasctl.files import atomic_folder, write_json
from debiasctl.reading.documents import parse_json
from debiasctl.reading.regular import read_text
from debiasctl.reading.user_text import expanded, is_text
from debiasctl.runs import lock as run_lock
from debiasctl.runs import metrics as metrics_file
from debiasctl.runs.parts import CHECKPOINTS, EVALUATIONS, GRIDS, MANIFEST, METRICS, SAMPLES, SPEC, STATUS
from debiasctl.runs.status import RUN, RunStatus, now, parse_status, stated_run
from debiasctl.temporaries import remove_stale
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.runs.records import MetricsRecord
    from debiasctl.specs.recorded import ContentSection
    from debiasctl.specs.sections import RunSpec

Fill = Callable[[Path], None]
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Run:
    """A run's folder. Making one reads nothing; `create_run` and `find_run` give those that exist."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def typed(self) -> str:
        """What names the run in a command: its name in the store, and its path elsewhere."""
        return self.name if self.path.parent == paths.runs_dir() else shlex.quote(str(self.path))

    @property
    def metrics_path(self) -> Path:
        """The file of metrics, one record per line; see `runs.records`."""
        return self.path / METRICS

    @property
    def samples_dir(self) -> Path:
        """The folder of samples, one subfolder per key; it need not exist."""
        return self.path / SAMPLES

    @property
    def grids_dir(self) -> Path:
        """The folder of grids drawn during training, one `<step>.png` per step; it need not exist."""
        return self.path / GRIDS

    @property
    def evaluations_dir(self) -> Path:
        """The folder of evaluations, one `<key>.json` per key; it need not exist."""
        return self.path / EVALUATIONS

    def spec(self) -> "RunSpec":
        """The validated spec.

        Raises:
            RunError: if it is missing, damaged, or was written by a newer version.
        """
        from debiasctl.specs.resolve import load_stored_spec

        return load_stored_spec(self._read(SPEC), str(self.path / SPEC))

    def identity(self) -> str | None:
        """The random identity that the run was created with, which its stored parts state too.

        None in runs of older versions, and if the spec cannot be read, which `spec` reports.
        """
        with suppress(RunError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            found = parse_json(self._read(SPEC))["provenance"].get("run")
            return found if isinstance(found, str) else None
        return None

    def check_identity(self, stated: str | None, *, what: str, way_on: str) -> None:
        """Check that a stored part, which states the identity of a run, is this run's own.

        Raises:
            ForeignPartError: if it states another identity, or none where this run has one; it ends with `way_on`.
            RunError: if the spec, which would state the run's identity, cannot be read: the part is then not at fault.
        """
        own = self.identity()
        if stated != own:
            if own is None:
                self.spec()
            whose = "states no run, as those of older versions" if stated is None else f"is that of run {stated}"
            this = f"run '{self.name}' (identity {own or 'unknown'})"
            raise ForeignPartError(f"{what} is not that of {this}: it {whose}. {way_on}")

    def content(self, spec: "RunSpec") -> "ContentSection":
        """The run's data as its spec describes them.

        Raises:
            RunError: if the spec does not describe them.
        """
        if spec.content is None:
            raise RunError(f"run '{self.name}': its spec.json does not describe its data. The run is not complete")
        return spec.content

    def status(self) -> RunStatus:
        """How far the run is; one that says "training" while no process trains it is "interrupted".

        Raises:
            RunError: if the file is missing, damaged, or was written by a newer version.
        """
        status = self._stored_status()
        if status.state == "training" and not self.is_training():
            # The trainer may have finished in between; it writes its final status before it releases the lock.
            status = self._stored_status()
            if status.state == "training":
                return replace(status, state="interrupted")
        return status

    def write_status(self, status: RunStatus) -> None:
        """Replace the stored status; RunBusyError if this process trains the run and its lock was broken."""
        self.check_lock()
        _write_status(self.path, status, identity=self.identity())

    def check_status(self) -> None:
        """Check that the stored status is this run's own.

        Raises:
            RunError: if the file cannot be read.
            ForeignPartError: if it states another run; those of older versions state none.
        """
        file = os.path.join(self.path, STATUS)
        stated = stated_run(self._read(STATUS), file)
        if stated is not None:
            self.check_identity(stated, what=file, way_on="Restore the run's own from a copy")

    def update_status(self, **changes: Any) -> RunStatus:
        """Replace fields of the stored status, and the time of its update; returns the new one."""
        status = replace(self.status(), **changes, updated=now())
        self.write_status(status)
        return status

    def checkpoint_steps(self) -> list[int]:
        """Steps of the complete checkpoints (those with a manifest), ascending."""
        folder = self.path / CHECKPOINTS
        if not folder.is_dir():
            return []
        return sorted(
            int(entry.name)
            for entry in folder.iterdir()
            if re.fullmatch("[0-9]+", entry.name) and (entry / MANIFEST).is_file()
        )

    def checkpoint_path(self, step: int) -> Path:
        """The folder of the checkpoint after `step` optimizer steps; need not exist."""
        return self.path / CHECKPOINTS / f"{step:08d}"

    def evaluation_keys(self) -> list[str]:
        """Keys of the stored evaluations, sorted."""
        return sorted(file.stem for file in self.evaluations_dir.glob("[!.]*.json"))

    def is_training(self) -> bool:
        """Whether a living process, this one included, holds the run's lock. Creates and writes nothing."""
        return run_lock.is_locked(self.path)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the run's lock, as the one process that trains it, for the length of the block.

        Raises:
            RunBusyError: if another process is training it.
        """
        return run_lock.trainer_lock(self.path)

    def check_lock(self) -> None:
        """Check that no other process can have locked the run, if this one has; see `run_lock.check_held`."""
        run_lock.check_held(self.path)

    def _stored_status(self) -> RunStatus:
        return parse_status(self._read(STATUS), os.path.join(self.path, STATUS))

    def _read(self, name: str) -> str:
        file = os.path.join(self.path, name)  # a listing does this thousands of times, and pathlib is slow at it
        try:
            return read_text(file)
        except PermissionError as error:
            raise RunError(f"{file} cannot be read: {error.strerror}. Make it readable: chmod u+r {file}") from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RunError(
                f"{file} cannot be read: {reason}. Restore it from a copy, or remove the run: "
                f"debiasctl runs rm {self.typed}"
            ) from error


# ---------------------------------------------------------------- the store


def validate_run_name(name: str) -> None:
    """Raise RunNameError if `name` may not name a run."""
    if not _NAME.fullmatch(name):
        raise RunNameError(
            f"{quoted(name)} is not a run's name: use 1 to 100 letters (a-z, A-Z), digits, '.', '_' and '-', "
            "starting with a letter or digit"
        )


def create_run(name: str | None, spec: "RunSpec", *, status: RunStatus, fill: Fill = lambda folder: None) -> Run:
    """Make a run's folder, whole or not at all. Without a name: dataset-weighting-seed, with -2, -3, ... where taken.

    `fill` writes what else the folder is to hold.

    Raises:
        RunNameError: if the name is not allowed or is taken.
    """
    if name is not None:
        validate_run_name(name)
        return _create(name, spec, status, fill)
    base = re.sub("[^A-Za-z0-9._-]+", "-", f"{status.dataset}-{status.weighting}-{status.seed}").strip("._-")[-90:]
    base = base.lstrip("._-")
    number = 1
    while True:
        candidate = base if number == 1 else f"{base}-{number}"
        number += 1
        if not os.path.lexists(paths.runs_dir() / candidate):
            with suppress(RunNameError):  # another process was faster
                return _create(candidate, spec, status, fill)


def refuse_taken_name(name: str) -> None:
    """Raise RunNameError early if `create_run` would refuse the name."""
    validate_run_name(name)
    path = paths.runs_dir() / name
    if os.path.lexists(path):
        raise RunNameError(_taken(path, _ways_on(name)))


def _taken(path: Path, advice: str) -> str:
    if _is_run(path):
        return f"a run named '{path.name}' already exists. {advice}"
    return f"{path} exists and is not a run. Move it away, or choose another name"


def _ways_on(name: str) -> str:
    return f"Choose another `name`; or train that run further, as it is: debiasctl train --resume {name}"


def _create(name: str, spec: "RunSpec", status: RunStatus, fill: Fill) -> Run:
    path = paths.runs_dir() / name
    with claim_folder(path, taken=_ways_on(name)) as folder:
        write_json(folder / SPEC, spec.model_dump(mode="json"))
        _write_status(folder, status, identity=Run(folder).identity())
        fill(folder)
    return Run(path)


def _write_status(folder: Path, status: RunStatus, *, identity: str | None) -> None:
    write_json(folder / STATUS, asdict(status) | ({} if identity is None else {RUN: identity}))


@contextmanager
def claim_folder(path: Path, *, taken: str) -> Iterator[Path]:
    """An `atomic_folder` for a new run; RunNameError with the advice `taken` where `path` exists, before or after."""
    if os.path.lexists(path):
        raise RunNameError(_taken(path, taken))
    remove_stale(path.parent)
    try:
        with atomic_folder(path) as folder:
            yield folder
    except DebiasctlError as error:
        if isinstance(error.__cause__, OSError) and os.path.lexists(path):
            raise RunNameError(_taken(path, taken)) from error
        raise


def run_names() -> list[str]:
    """Names of all folders in the store, sorted; nothing in them is read."""
    return [entry.name for entry in store_entries() if is_folder(entry)]


def store_entries() -> list["os.DirEntry[str]"]:
    """Everything in the store whose name may be a run's, sorted by it.

    Raises:
        RunError: if the store cannot be read.
    """
    try:
        with os.scandir(paths.runs_dir()) as entries:
            return sorted((entry for entry in entries if _NAME.fullmatch(entry.name)), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(
            f"the store {paths.runs_dir()} cannot be read: {error.strerror}. Change that, or set DEBIASCTL_HOME to "
            "another folder"
        ) from error


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether an entry is a folder or a link to one; a link to nothing, or to itself, is neither."""
    with suppress(OSError):
        return entry.is_dir()
    return False


def find_run(text: str, *, exact: bool = False) -> Run:
    """The run of that name, else of that unique prefix, in the store; or, with a '/' in it, at that path.

    With `exact`, a prefix is not enough: removal, which cannot be undone, needs the whole name.

    Raises:
        RunNameError: if no run matches, or several do.
    """
    if text in (".", "..") or text.startswith("~") or any(mark in text for mark in {"/", os.sep}):
        return _run_at(text)
    validate_run_name(text)
    names = [name for name in run_names() if name.startswith(text) and _is_run(paths.runs_dir() / name)]
    if text in names or exact:
        names = [name for name in names if name == text]
    if len(names) > 1:
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise RunNameError(f"'{text}' is a prefix of several runs' names: {shown}. Write out one of them")
    if not names:
        if os.path.lexists(paths.runs_dir() / text):
            raise RunNameError(_not_a_run(paths.runs_dir() / text))
        raise RunNameError(f"there is no run '{text}'.{did_you_mean(text, run_names())} See: debiasctl runs list")
    return Run(paths.runs_dir() / names[0])


def _run_at(text: str) -> Run:
    try:
        path = expanded(text).resolve()
        if not is_text(path):
            raise ValueError("it is not UTF-8, and weights cannot be read from there. Rename it")
        found = (path / SPEC).is_file()
    except (OSError, RuntimeError, ValueError) as error:
        raise RunNameError(f"{quoted(text)} cannot be read as a path: {error}") from error
    if not found:
        raise RunNameError(
            f"{quoted(text)} is not a run's folder (it holds no spec.json). Give a path to one, or a run's name: "
            "debiasctl runs list"
        )
    return Run(path)


def _is_run(path: Path) -> bool:
    return os.path.isfile(f"{path}/status.json") or os.path.isfile(f"{path}/spec.json")


def _not_a_run(path: Path) -> str:
    if (reason := unreadable(path)) is not None:
        return f"{path} cannot be read: {reason}. Correct that, or move it away"
    return f"{path} is not a run: it holds neither spec.json nor status.json. Move it away"


def unreadable(path: Path) -> str | None:
    """Why one cannot even see whether `path`, which exists, is a run; None if one can."""
    if path.is_symlink() and not os.path.exists(path):
        return f"it is a link that leads nowhere ({os.readlink(path)})"
    try:
        os.stat(path / STATUS)
        os.stat(path / SPEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error.strerror
    return None


def append_metrics(run: Run, records: "Sequence[MetricsRecord]") -> None:
    """Append records in one write; a last line that a kill left partial is cut off."""
    run.check_lock()
    metrics_file.append(run.metrics_path, records, run=run.identity())


def read_metrics(run: Run) -> "list[MetricsRecord]":
    """All records, in the order of their writing; [] where there are none yet.

    Raises:
        RunError: if a line other than a partial last one cannot be read, or is of another run.
    """
    records, stated = metrics_file.read(run.metrics_path)
    way_on = "Restore the run's own from a copy, or move it away"
    for identity in sorted(stated):
        run.check_identity(identity, what=str(run.metrics_path), way_on=way_on)
    return records


def truncate_metrics(run: Run, step: int) -> None:
    """Drop the records of steps after `step`: a resume from that step's checkpoint writes them again."""
    run.check_lock()
    metrics_file.truncate(run.metrics_path, step)
