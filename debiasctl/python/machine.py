"""Where the Python API computes: on a device, as the commands do, and without traces in the caller's process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from debiasctl import paths
from debiasctl.api import DataLocation
from debiasctl.compute.device import choose_device
from debiasctl.compute.memory import memory_reported
from debiasctl.errors import DebiasctlError, Interrupted


@contextmanager
def computing(device: "str | torch.device", *, kind: type[DebiasctlError], doing: str) -> Iterator[torch.device]:
    """Give the device that `auto`, `cpu`, `cuda` or `cuda:N` names; float32 is exact on it until the block ends.

    Raises:
        UsageError: if there is no such device; `kind`: if memory runs out; KeyboardInterrupt: on Ctrl-C.
    """
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [backend.allow_tf32 for backend in backends]
    current = torch.cuda.current_device() if torch.cuda.is_available() else None
    try:
        for backend in backends:
            backend.allow_tf32 = False
        with memory_reported(kind, doing, advice="Choose a smaller `batch_size` or `num`"):
            yield choose_device(str(device))
    except Interrupted as stop:  # a library's caller expects Python's own
        raise KeyboardInterrupt(str(stop)) from stop
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value
        if current is not None:
            torch.cuda.set_device(current)


def location() -> DataLocation:
    """Where data sets' files are, as the environment says."""
    return DataLocation(data_dir=paths.data_dir(), cache_dir=paths.cache_dir())
