"""Collecting signals that ask a process to stop, so that the step in progress can end."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

_SAME_SIGNAL_SECONDS = 1.0


class StopSignals:
    """Collects the first SIGINT, SIGTERM or SIGHUP within a `with` block; a later one acts at once.

    A repetition within the same second is ignored, because a terminal and a launcher may each forward one Ctrl-C.
    Blocks may be nested; the previous handlers are restored when the innermost block ends.
    """

    def __init__(self) -> None:
        self.received: list[signal.Signals] = []
        self._before: dict[signal.Signals, Any] = {}
        self._first = math.inf

    def __enter__(self) -> Self:
        if not self._before:
            known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
            handlers = {number: signal.getsignal(number) for number in known}
            # nohup ignores SIGHUP
            self._before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
            for number in self._before:
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if not self.received:
            self._first = time.monotonic()
            self.received.append(signal.Signals(number))
        elif time.monotonic() - self._first > _SAME_SIGNAL_SECONDS:
            self.__exit__(None, None, None)
            signal.raise_signal(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise one KeyboardInterrupt with the signal's number on SIGINT or SIGTERM; later ones wait for the block's end.

    A terminal and a launcher may each forward one Ctrl-C, which must not interrupt writing the samples drawn so far.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def handle(number: int, _frame: FrameType | None) -> NoReturn:
        for known in before:
            signal.signal(known, signal.SIG_IGN)
        raise KeyboardInterrupt(number)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
