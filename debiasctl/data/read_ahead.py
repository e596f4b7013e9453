"""Reading ahead in a background thread."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

Read = TypeVar("Read")


class ReadAhead(Generic[Read]):
    """Calls `read(step)` in a background thread, up to `ahead` steps before the result is requested.

    There is one thread, because a split need not be safe for concurrent reads; splits that decode files use all cores
    themselves. At most `ahead` + 1 results are held. An error of `read` is raised when its step is requested.
    """

    def __init__(self, read: Callable[[int], Read], *, ahead: int, device: torch.device) -> None:
        self._read, self._ahead, self._device = read, ahead, device
        self._pending: dict[int, Future[Read]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, step: int) -> Read:
        """Return the result for `step`, whichever steps were requested before."""
        wanted = range(step, step + self._ahead + 1)
        for stale in [other for other in self._pending if other not in wanted]:
            self._pending.pop(stale).cancel()
        for other in wanted:
            if other not in self._pending:
                self._pending[other] = self._submit(other)
        return self._pending.pop(step).result()

    def close(self) -> None:
        """End the thread after the read in progress, and drop all results."""
        pool, self._pool = self._pool, None
        self._pending.clear()
        if pool is not None:
            pool.shutdown(cancel_futures=True)

    def _submit(self, step: int) -> Future[Read]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="read-ahead", initializer=self._choose_device)
        return self._pool.submit(self._read, step)

    def _choose_device(self) -> None:
        if self._device.index is not None and self._device.type == "cuda":
            torch.cuda.set_device(self._device)  # a new thread uses the first GPU by default, and would allocate there
