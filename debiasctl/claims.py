"""System locks on files and folders that are there: they end with their holder, and taking one writes nothing."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hold(path: Path | str, *, shared: bool = False) -> int | None:
    """Lock a file or folder; the lock lasts until the descriptor returned is closed, or this process ends.

    None is returned if the system or the file system has no such locks.

    Raises:
        BlockingIOError: if another holder excludes this one; OSError: if the path cannot be opened.
    """
    if sys.platform == "win32":
        os.stat(path)
        return None
    import fcntl

    descriptor = _open(path, shared=shared)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def held(path: Path | str, *, shared: bool = False) -> Iterator[int | None]:
    """Hold a lock for the length of the block; see `hold`, whose errors it raises."""
    descriptor = hold(path, shared=shared)
    try:
        yield descriptor
    finally:
        release(descriptor)


def release(descriptor: int | None) -> None:
    """Release what `hold` gave."""
    if descriptor is not None:
        os.close(descriptor)


def is_held(path: Path | str) -> bool:
    """Whether another holder, in this process or another, excludes everyone else."""
    try:
        with held(path, shared=True):
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def identity(path: Path | str) -> tuple[int, int] | None:
    """The device and inode of what lies at `path` now; None if nothing does."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _open(path: Path | str, *, shared: bool) -> int:
    """Network file systems grant an exclusive lock on a file only to those that may write to it."""
    if not shared and not os.path.isdir(path):
        try:
            return os.open(path, os.O_RDWR | os.O_NONBLOCK)
        except PermissionError:
            pass
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK)
