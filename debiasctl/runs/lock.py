"""The lock by which one process at a time trains or removes a run; checking it writes nothing.

It is held on two things: the file `.lock`, and the run's folder itself, whose lock no removal of a file can end.
"""

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from debiasctl import claims, paths
from debiasctl.errors import RunBusyError, RunNameError
from debiasctl.files import write_json, writing
from debiasctl.reading.documents import read_json
from debiasctl.runs.parts import LOCK, TRAINER
from debiasctl.wording import quoted

# A reader that checks the lock holds it for an instant, and must not be taken for a trainer.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # a named pipe in its place never blocks a listing
_GRACE_SECONDS = 1.0
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class _Held:
    """The folder and the lock file that this process holds, by device and inode; `by_folder`: the folder is locked."""

    folder: tuple[int, int] | None
    file: tuple[int, int] | None
    by_folder: bool


_HELD: dict[str, _Held] = {}  # by the run's absolute path


def is_locked(folder: Path) -> bool:
    """Whether a living process, this one included, holds the lock of the run in `folder`."""
    try:
        descriptor = os.open(os.path.join(folder, LOCK), os.O_RDONLY | _NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return claims.is_held(folder)
    except OSError:  # it exists and may not be opened: the run may be in use
        return True
    try:
        return not _can_share(descriptor) or claims.is_held(folder)
    finally:
        os.close(descriptor)


def check_held(folder: Path) -> None:
    """Check, before this process writes into a run that it has locked, that the lock still excludes all others.

    Raises:
        RunBusyError: if the folder was replaced; or if the lock file was and the folder itself cannot be locked.
    """
    held = _HELD.get(os.path.abspath(folder))
    if held is None:
        return
    if claims.identity(folder) != held.folder:
        problem = "its folder was moved, removed or replaced"
    elif not held.by_folder and claims.identity(folder / LOCK) != held.file:
        problem = f"its lock file {LOCK} was removed, so that another process may be training it too"
    else:
        return
    raise RunBusyError(
        f"run '{folder.name}' was in use by this process, and {problem}. This process writes nothing more to it. "
        "Make sure that no other process trains it, and resume it from its last checkpoint: "
        f"debiasctl train --resume {folder.name if folder.parent == paths.runs_dir() else shlex.quote(str(folder))}"
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the run in `folder`.

    Raises:
        RunBusyError: if another process holds it.
        RunNameError: if the folder is gone.
    """
    from filelock import FileLock, Timeout

    gone = RunNameError(f"there is no run '{folder.name}' (any more). See: debiasctl runs list")
    if not folder.is_dir():  # filelock would create the folder
        raise gone
    lock = FileLock(folder / LOCK, timeout=_GRACE_SECONDS)
    with writing(folder):
        try:
            lock.acquire(poll_interval=_POLL_SECONDS)
        except Timeout as error:
            raise _busy(folder) from error
    try:
        if not folder.is_dir():  # removed between the opening of the file and its locking
            raise gone
        with _locked_folder(folder) as by_folder:
            key = os.path.abspath(folder)
            _HELD[key] = _Held(claims.identity(folder), claims.identity(folder / LOCK), by_folder)
            try:
                yield
            finally:
                _HELD.pop(key, None)
    finally:
        lock.release()


@contextmanager
def _locked_folder(folder: Path) -> Iterator[bool]:
    """Hold a lock on the folder itself, and say whether there are such locks; RunBusyError where another holds it."""
    patient_until = time.monotonic() + _GRACE_SECONDS
    while True:
        try:
            descriptor = claims.hold(folder)
            break
        except BlockingIOError as error:
            if time.monotonic() > patient_until:
                raise _busy(folder) from error
            time.sleep(_POLL_SECONDS)
    try:
        yield descriptor is not None
    finally:
        claims.release(descriptor)


def _busy(folder: Path) -> RunBusyError:
    return RunBusyError(
        f"run '{folder.name}' is being trained by another process{_trainer(folder)}. "
        "Wait until it ends, or stop it with Ctrl-C (it writes a checkpoint first)"
    )


@contextmanager
def trainer_lock(folder: Path) -> Iterator[None]:
    """Hold the lock, and store the holder's process and host for the message that others get."""
    import socket

    with locked(folder):
        write_json(folder / TRAINER, {"pid": os.getpid(), "host": socket.gethostname()})
        try:
            yield
        finally:
            (folder / TRAINER).unlink(missing_ok=True)


def trained_here(*, patience: float) -> list[str]:
    """Names of runs in the store that processes of this machine are training; so many as are found in `patience` s."""
    import socket

    found, until, host = [], time.monotonic() + patience, socket.gethostname()
    with suppress(OSError), os.scandir(paths.runs_dir()) as entries:
        for entry in entries:
            if time.monotonic() > until:
                break
            with suppress(OSError, ValueError, KeyError, TypeError):
                is_here = read_json(Path(entry.path) / TRAINER, limit=1 << 16)["host"] == host
                if is_here and is_locked(Path(entry.path)):
                    found.append(entry.name)
    return sorted(found)


def _trainer(folder: Path) -> str:
    try:
        trainer = read_json(folder / TRAINER, limit=1 << 16)
        return f" (pid {int(trainer['pid'])} on {quoted(trainer['host'], mark='', limit=60)})"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return ""  # only a hint in a message: the lock itself says that the run is busy


def _can_share(descriptor: int) -> bool:
    """Whether a shared lock can be had, that is, no trainer holds the lock."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held; or locks do not work here, and then the run may be in use
        return False
    return True
