"""Writing files so that a reader sees the old content or the new, never a part; and hashing them."""

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, TypeVar

from debiasctl import temporaries
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.reading.regular import sha256_file as sha256_file
from debiasctl.reading.regular import special_kind

_LOG = logging.getLogger(__name__)
Found = TypeVar("Found")


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes `path`'s place when the block ends without an error, and leaves nothing otherwise.

    Raises:
        UsageError: if `path` is a device, a named pipe or a socket, whose place it would take.
        DebiasctlError: if the disk is full or the folder cannot be written.
    """
    _refuse_special(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporaries.claimed(path, lambda temporary: temporary.touch(exist_ok=False)) as (temporary, _):
            try:
                with open(temporary, "r+b") as stream:
                    yield stream
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(temporary, path)
                _fsync_folder(path.parent)
            finally:
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears as `path` when the block ends without an error.

    `path` must not exist, or with `replace` is removed once the new folder is whole.

    Raises:
        DebiasctlError: if the disk is full, the folder cannot be written, or `path` exists; nothing is left behind.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporaries.claimed(path, Path.mkdir) as (temporary, _):
            try:
                yield temporary
                for file in sorted(temporary.rglob("*")):
                    if file.is_file():
                        with open(file, "rb") as stream:
                            os.fsync(stream.fileno())
                    else:
                        _fsync_folder(file)
                _fsync_folder(temporary)
                with _aside(path) if replace and path.exists() else nullcontext():
                    os.replace(temporary, path)
                    _fsync_folder(path.parent)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _aside(path: Path) -> Iterator[None]:
    """Move `path` out of the way: for good where the block ends without an error, else back."""
    aside = temporaries.name_beside(path)
    os.replace(path, aside)
    with temporaries.in_use(aside):
        try:
            yield
        except OSError:
            os.replace(aside, path)
            raise
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def file_lock(path: Path, *, waiting: str) -> Iterator[None]:
    """Hold the lock file at `path`, which is made; while another process holds it, wait, and log `waiting` once.

    Raises:
        DebiasctlError: if the lock file cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _LOG.warning("%s", waiting)
            lock.acquire(poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


def made_once(path: Path, *, find: Callable[[], Found | None], make: Callable[[], Found]) -> Found:
    """What `find` finds at `path`, or what `make` makes there if it finds None, by one process while others wait.

    `find` is called again once the lock file beside `path` is held, since another process may have been faster. Where
    it finds something at once, nothing is written.

    Raises:
        DebiasctlError: if the lock file cannot be written; and the errors of `find` and `make`.
    """
    found = find()
    if found is not None:
        return found
    waiting = f"another process is making {path}; waiting for it"
    with file_lock(path.with_name(f".{path.name}.lock"), waiting=waiting):
        temporaries.remove_stale(path.parent)
        found = find()
        return make() if found is None else found


class HashingFile:
    """A file whose SHA-256 is computed while it is written, so that nothing is read back.

    Once the system has refused a write, later ones are dropped, and `hashing_file` raises the refusal at its end: a
    library whose writing is interrupted may hide the reason behind an error of its own.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._hash = stream, hashlib.sha256()
        self.refused: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`; returns its length."""
        if self.refused is None:
            try:
                self._stream.write(data)
            except OSError as error:
                self.refused = error
            else:
                self._hash.update(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: libraries call this, and closing the file flushes it."""

    def sha256(self) -> str:
        """The SHA-256 of what was written so far, in hexadecimal."""
        return self._hash.hexdigest()


@contextmanager
def hashing_file(path: Path) -> Iterator[HashingFile]:
    """A new file at `path` that knows its own SHA-256; not atomic by itself: see `atomic_folder`.

    Raises:
        OSError: if the system refused a write.
    """
    with open(path, "xb") as stream:
        file = HashingFile(stream)
        yield file
        if file.refused is not None:
            raise file.refused


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, atomically."""
    with atomic_file(path) as stream:
        stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def content_key(value: Any) -> str:
    """A short hash (16 hexadecimal digits) of a JSON value, equal for equal values whatever their key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into one message that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason = "the disk is full. Free some space (debiasctl runs rm NAME removes a run)"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = "writing there is not allowed. Choose another place, or set DEBIASCTL_HOME to a folder of yours"
        else:
            reason = f"{error.strerror or error}"
        raise DebiasctlError(f"cannot write {path}: {reason}") from error


def _refuse_special(path: Path) -> None:
    """Raise UsageError if `path` is a device, a named pipe or a socket: a file would take its place, for everyone."""
    kind = special_kind(path)
    if kind is not None:
        raise UsageError(f"cannot write {path}: it is {kind}, and a file would take its place. Give the name of a file")


def obstacle(folder: Path) -> str | None:
    """Why no file can be written into `folder`, which need not exist; None where one can. Nothing is written."""
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        return f"{there} is {'not a folder' if os.path.exists(there) else 'a link to nothing'}"
    return None if os.access(there, os.W_OK | os.X_OK) else f"writing in {there} is not allowed"


def check_place(path: Path) -> None:
    """Refuse, before any work, a file or new folder whose parent folder cannot be written to.

    Raises:
        DebiasctlError: if its parent is not a folder, or may not be written to.
    """
    reason = obstacle(path.absolute().parent)
    if reason is not None:
        raise DebiasctlError(f"cannot write {path}: {reason}. Choose another place")


def check_file(path: Path, *, argument: str, endings: Sequence[str] = ()) -> None:
    """Check that a file can be written at the path given by `argument`, and that it has one of the `endings`, if any.

    Raises:
        UsageError: if it has another ending, or `path` is a folder, a device, a named pipe or a socket.
        DebiasctlError: if `check_place` raises it.
    """
    if endings and path.suffix.lower() not in endings:
        raise UsageError(f"`{argument}={path}`: the ending says what is written; choose one of {', '.join(endings)}")
    if path.is_dir():
        raise UsageError(f"`{argument}={path}` is a folder. Give a file's name")
    _refuse_special(path)
    check_place(path)


def check_new_folder(path: Path, *, argument: str) -> None:
    """Check that a new folder can be made at the path given by `argument`, which may be an empty folder.

    Raises:
        UsageError: if `path` is a file or a folder that is not empty; DebiasctlError: if `check_place` raises it.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"`{argument}={path}` exists and is not empty. Choose another name, or remove it first")
    check_place(path)


def _fsync_folder(path: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
