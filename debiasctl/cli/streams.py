"""The standard streams: a display that cannot be written never ends work, and results that are lost are an error."""

import contextlib
import errno
import io
import os
import select
import sys
from typing import IO

from debiasctl.errors import DebiasctlError

_STDIN, _STDOUT, _STDERR = range(3)
_RESULTS: list[int] = []  # the descriptor of the results, where it is not stdout's


class OutputError(DebiasctlError):
    """Results cannot be written to stdout."""


class Display(io.FileIO):
    """A file descriptor that takes whatever is written, and drops what cannot be: stderr."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)

    def write(self, data: object) -> int:
        """Write what can be written; the disk may be full, the reader gone or the terminal closed."""
        with contextlib.suppress(OSError):  # there is no place left to report it
            super().write(data)  # type: ignore[arg-type]
        return memoryview(data).nbytes  # type: ignore[arg-type]


class Results(io.FileIO):
    """A file descriptor that reports once that it cannot be written: stdout."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.failed = False

    def write(self, data: object) -> int:
        """Write, waiting for a slow reader.

        Raises:
            BrokenPipeError: if the reader has closed the pipe, as `head` does.
            OutputError: if the results cannot be written for another reason.
        """
        size = memoryview(data).nbytes  # type: ignore[arg-type]
        if self.failed:
            return size  # reported already; what the buffers still hold is lost too
        try:
            while (written := super().write(data)) is None:  # type: ignore[arg-type]
                select.select([], [self], [])  # another process has made the pipe non-blocking
        except BrokenPipeError:
            self.failed = True
            raise
        except OSError as error:
            self.failed = True
            raise OutputError(f"the results cannot be written to stdout: {error.strerror or error}") from error
        return written


def open_streams() -> None:
    """Open closed standard streams, so that no file takes their numbers, and make stdout and stderr safe to write.

    A closed stdout refuses what is written to it. Where stdout is no terminal, its number leads to stderr and the
    results have one of their own: a plugin's subprocess or C library may write to it. Streams that something else has
    replaced are left alone.
    """
    for number, mode in ((_STDIN, os.O_RDONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        if _is_closed(number):
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(Display(_STDERR), like=sys.stderr, line_buffering=True)
    if sys.stdout is sys.__stdout__:
        terminal = sys.stdout is not None and sys.stdout.line_buffering
        if not os.isatty(_STDOUT):
            _RESULTS.append(os.dup(_STDOUT))
            os.dup2(_STDERR, _STDOUT)
        number = _RESULTS[-1] if _RESULTS else _STDOUT
        sys.stdout = _text(io.BufferedWriter(Results(number)), like=sys.stdout, line_buffering=terminal)


def share_stdout() -> None:
    """Let what this process starts write results too: its parallel processes, or a plugin's command."""
    if _RESULTS:
        os.dup2(_RESULTS[-1], _STDOUT)


def finish() -> None:
    """Write what stdout still holds.

    Raises:
        OutputError, BrokenPipeError: if that fails.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def _text(binary: IO[bytes], *, like: io.TextIOWrapper | None, line_buffering: bool) -> io.TextIOWrapper:
    """A text stream over `binary`; a terminal that knows no 'é' is no reason to fail."""
    encoding = "utf-8" if like is None else like.encoding
    return _Open(
        binary, encoding, errors="backslashreplace", line_buffering=line_buffering, write_through=line_buffering
    )


class _Open(io.TextIOWrapper):
    """A text stream that stays open: a plugin that closes what it prints to would end the program's messages."""

    def close(self) -> None:
        """Flush it."""
        self.flush()


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError as error:
        return error.errno == errno.EBADF
    return False
