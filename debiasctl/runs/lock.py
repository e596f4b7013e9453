"""The lock by which one process at a time trains or removes a run; checking it writes nothing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from debiasctl.errors import RunBusyError, RunNameError
from debiasctl.files import write_json, writing
from debiasctl.reading.documents import read_json
from debiasctl.runs.parts import LOCK, TRAINER
from debiasctl.wording import quoted

# A reader that checks the lock holds it for an instant, and must not be taken for a trainer.
_GRACE_SECONDS = 1.0


def is_locked(folder: Path) -> bool:
    """Whether a living process, this one included, holds the lock of the run in `folder`."""
    try:
        descriptor = os.open(os.path.join(folder, LOCK), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # it exists and may not be opened: the run may be in use
        return True
    try:
        return not _can_share(descriptor)
    finally:
        os.close(descriptor)


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
            lock.acquire(poll_interval=0.02)
        except Timeout as error:
            raise RunBusyError(
                f"run '{folder.name}' is being trained by another process{_trainer(folder)}. "
                "Wait until it ends, or stop it with Ctrl-C (it writes a checkpoint first)"
            ) from error
    try:
        if not folder.is_dir():  # removed between the opening of the file and its locking
            raise gone
        yield
    finally:
        lock.release()


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
