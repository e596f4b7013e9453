"""The stream of results, stdout, kept free of what plugins print."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from debiasctl.boundary import is_running


class Results:
    """stdout for what debiasctl prints; what a plugin's code or a thread prints goes to stderr.

    Nothing is switched when a plugin is called, because several threads call plugins at once.
    """

    def __init__(self, stdout: Any) -> None:
        self._stdout = stdout

    @property
    def _stream(self) -> Any:
        return sys.stderr if is_running() or threading.current_thread() is not threading.main_thread() else self._stdout

    def write(self, text: str) -> int:
        """Write to stdout, or to stderr while a plugin's code runs."""
        return int(self._stream.write(text))

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream that `write` would use."""
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def results_on_stdout() -> Iterator[None]:
    """Keep stdout free of what plugins print while the block lasts."""
    before = sys.stdout
    sys.stdout = Results(before)
    try:
        yield
    finally:
        sys.stdout = before
