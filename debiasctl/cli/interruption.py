"""Signals that end a command, from its first moment to its last: acknowledged at once, and one line in the end."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from debiasctl.compute.signals import SAME_SIGNAL_SECONDS, STOPPING, StopSignals
from debiasctl.frames import is_importing

_QUIET = 0.5  # seconds in which most commands have ended, and nothing more needs to be said
_GRACE = 3.0  # seconds that the main thread has to end after a second signal
_PARENT = "DEBIASCTL_PARENT"  # the process whose end is also that of its workers
_LAUNCHED = "TORCHELASTIC_RUN_ID"  # set in every process that torchrun started
_PATIENCE = 300.0  # seconds for a worker's last checkpoint
_NUMBERS = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]

_received: list[int] = []
_silent = False
_raising = False


def begin() -> None:
    """Handle the signals that end a command, before anything takes time to import; the main thread calls this once.

    Within `raising` a signal raises KeyboardInterrupt with its number; outside it ends the process. So it does while a
    module is being imported, because packages turn an exception amid their imports into another one, or into nothing.
    Signals that are ignored stay so.
    """
    for number in _NUMBERS:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _handle)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    parent = os.environ.pop(_PARENT, "")  # popped, as it is not that of this process' own children
    if parent or _LAUNCHED in os.environ:
        number = int(parent) if parent.isdecimal() else os.getppid()
        threading.Thread(target=_end_with, args=(number,), daemon=True).start()


def end() -> None:
    """Let a signal end the process silently while the interpreter shuts down: nothing is left to be done."""
    for number in _NUMBERS:
        if signal.getsignal(number) is _handle:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Raise KeyboardInterrupt at a signal within this block, which the caller handles."""
    global _raising
    _raising = True
    try:
        yield
    finally:
        _raising = False


def received() -> int | None:
    """The number of the signal that ends this command, if one came."""
    return _received[0] if _received else None


def ending(number: int) -> str:
    """How the command ended, in a line."""
    return "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"


@contextlib.contextmanager
def leading() -> Iterator[None]:
    """Start workers within this block: they end if this process does, and one of them acknowledges signals."""
    global _silent
    os.environ[_PARENT] = str(os.getpid())
    _silent = True
    try:
        yield
    finally:
        _silent = False
        os.environ.pop(_PARENT, None)


def _handle(number: int, frame: FrameType | None) -> None:
    if not _raising or is_importing(frame):
        _leave(number, ending(number))
    _received.append(number)
    raise KeyboardInterrupt(number)


def _watch(reader: int) -> None:
    """Acknowledge signals from a thread: Python runs handlers only between two of its own instructions."""
    first: float | None = None
    while numbers := os.read(reader, 64):
        for number in numbers:
            if number not in _NUMBERS or _silent:
                continue
            if first is None:
                first = time.monotonic()
                _acknowledge(number)
            elif time.monotonic() - first > SAME_SIGNAL_SECONDS:
                time.sleep(_GRACE)
                _leave(number, "stopped at once")


def _acknowledge(number: int) -> None:
    again = "Ctrl-C again" if number == signal.SIGINT else "A second signal"
    stop = StopSignals.active
    if stop is not None:
        say(f"{signal.Signals(number).name}: stopping after {stop.work}. {again} stops at once")
        return
    time.sleep(_QUIET)
    say(f"{signal.Signals(number).name}: stopping. {again} stops at once")


def _end_with(parent: int) -> None:
    """End this worker as SIGTERM does once its parent is gone, however that ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    os._exit(128 + signal.SIGTERM)


def say(text: str) -> None:
    """Print a line in the first process; RANK may be anything here."""
    if os.environ.get("RANK", "0") == "0" and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def _leave(number: int, text: str) -> None:
    say(text)
    os._exit(128 + number)
