"""The pace at which long work reports its progress."""

import time
from collections.abc import Callable


class Pace:
    """Says when to report again: `seconds` after the last report, and later and later in work of hours."""

    def __init__(self, seconds: float = 10.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._start = self._last = clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._start

    @property
    def silence(self) -> float:
        """Seconds since the last report, or the beginning."""
        return self._clock() - self._last

    def due(self) -> bool:
        """Whether to report now; the report is then taken as made."""
        is_due = self.silence >= max(self._seconds, min(6 * self._seconds, self.elapsed / 100))
        if is_due:
            self.reported()
        return is_due

    def reported(self) -> None:
        """Note a report made out of turn."""
        self._last = self._clock()
