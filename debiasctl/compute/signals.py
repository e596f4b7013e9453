"""Handling of the signals that ask a process to stop, so that the step in progress can end."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, ClassVar, NoReturn, Self

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
SAME_SIGNAL_SECONDS = 1.0
Handler = Callable[[int, FrameType | None], object]


@contextmanager
def handling(names: tuple[str, ...], handle: Handler) -> Iterator[None]:
    """Give these signals to `handle` while the block lasts; one that is ignored stays so, and so do all in a thread."""
    before = _take(names, handle)
    try:
        yield
    finally:
        _put_back(before)


class StopSignals:
    """Collects the first SIGINT, SIGTERM or SIGHUP within a `with` block; a later one acts at once.

    A repetition within the same second is ignored, because a terminal and a launcher may each forward one Ctrl-C.
    Blocks may be nested; the previous handlers are restored when the innermost block ends. `work` names what is
    finished before the process stops.
    """

    active: ClassVar["StopSignals | None"] = None  # the one whose block is being executed

    def __init__(self, work: str = "this step") -> None:
        self.work = work
        self.received: list[signal.Signals] = []
        self._before: Mapping[signal.Signals, Any] = {}
        self._first = math.inf

    def __enter__(self) -> Self:
        if not self._before:
            self._before = _take(STOPPING, self._handle)
            StopSignals.active = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _put_back(self._before)
        self._before = {}
        StopSignals.active = None

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self.received:
            self._first = time.monotonic()
            self.received.append(signal.Signals(number))
        elif time.monotonic() - self._first > SAME_SIGNAL_SECONDS:
            self.__exit__(None, None, None)
            signal.raise_signal(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise one KeyboardInterrupt with the signal's number on SIGINT or SIGTERM; later ones wait for the block's end.

    A terminal and a launcher may each forward one Ctrl-C, which must not interrupt writing the samples drawn so far.
    """

    def handle(number: int, _frame: FrameType | None) -> NoReturn:
        for known in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(known) is handle:
                signal.signal(known, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    with handling(("SIGINT", "SIGTERM"), handle):
        yield


def number_of(stop: KeyboardInterrupt) -> int:
    """The number of the signal that raised it."""
    return int(stop.args[0]) if stop.args else signal.SIGINT


def _take(names: tuple[str, ...], handle: Handler) -> dict[signal.Signals, Any]:
    """Give those of the signals that this system knows and nobody ignores to `handle`; returns what they had before."""
    if threading.current_thread() is not threading.main_thread():
        return {}  # Python hands signals to the main thread alone
    known = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # nohup ignores SIGHUP; a handler that is not Python's, None here, could not be put back
    before = {number: signal.getsignal(number) for number in known}
    before = {number: found for number, found in before.items() if found not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handle)
    return before


def _put_back(before: Mapping[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
