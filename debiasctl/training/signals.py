"""Signals that ask a training to stop: collected, so that the step in progress can end."""

import math
import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

_SAME_SIGNAL_SECONDS = 1.0


class StopSignals:
    """Collects the first SIGINT, SIGTERM or SIGHUP within a `with` block; a later one acts at once.

    Not one of the same second: a terminal and a launcher may each pass one Ctrl-C on. The block may be entered again
    within itself; what was there before is put back when the innermost ends.
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
