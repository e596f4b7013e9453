"""Reading in a background thread, ahead of whoever asks."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

Read = TypeVar("Read")


class ReadAhead(Generic[Read]):
    """`read(step)`, for `ahead` steps before they are asked for, in a background thread.

    One thread, for a split need not bear several; those that decode files use all cores by themselves. At most
    `ahead` + 1 results are held. What `read` raises is raised when its step is asked for, and not before.
    """

    def __init__(self, read: Callable[[int], Read], *, ahead: int, device: torch.device) -> None:
        self._read, self._ahead, self._device = read, ahead, device
        self._pending: dict[int, Future[Read]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def __call__(self, step: int) -> Read:
        """The result for `step`, whatever steps were asked for before."""
        wanted = range(step, step + self._ahead + 1)
        for stale in [other for other in self._pending if other not in wanted]:
            self._pending.pop(stale).cancel()
        for other in wanted:
            if other not in self._pending:
                self._pending[other] = self._submit(other)
        return self._pending.pop(step).result()

    def close(self) -> None:
        """End the thread, once it has read what it is at; drop all results."""
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
            torch.cuda.set_device(self._device)  # a new thread is on the first GPU, and would take up memory there
