"""Available memory, and recognising and reporting out-of-memory errors."""

import contextlib
import errno
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from debiasctl.boundary import summary
from debiasctl.errors import DebiasctlError, ModelError, PluginError
from debiasctl.wording import format_bytes

if TYPE_CHECKING:
    import torch

# parts of the messages of plain RuntimeErrors: of torch's allocators, CUDA's libraries, and C++'s new
_SIGNS = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "unable to mmap",
    "bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_ASKED = re.compile(r"(?:tried|[Uu]nable) to allocate ([\d.]+) ?(bytes|[KMGTPE]?i?B)")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory, in a plugin too, with plain RuntimeErrors and what system calls report."""
    if isinstance(error, PluginError | ModelError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(sign in summary(error) for sign in _SIGNS)


def out_of_memory(error: BaseException, *, doing: str = "", advice: str = "") -> str | None:
    """The message for an error that means out of memory, with the size that was asked for; None for another error."""
    if not is_out_of_memory(error):
        return None
    asked = _ASKED.search(summary(error))
    size = "" if asked is None else f": {_size(*asked.groups())} more could not be had"
    return f"out of memory{f' {doing}' if doing else ''}{size}. {advice or 'Free some memory, or ask for less'}"


@contextlib.contextmanager
def memory_reported(kind: type[DebiasctlError], doing: str, *, advice: str) -> Iterator[None]:
    """Report a lack of memory within the block as an error of this kind, with what was done and what to reduce."""
    try:
        yield
    except Exception as error:
        message = out_of_memory(error, doing=doing, advice=advice)
        if message is None:
            raise
        raise kind(message) from error


def _size(number: str, unit: str) -> str:
    return format_bytes(int(number)) if unit == "bytes" else f"{number} {unit}"


def total_memory(device: "torch.device") -> int:
    """The bytes of main memory, or of all GPUs."""
    if device.type == "cuda":
        import torch

        return torch.cuda.device_count() * int(torch.cuda.mem_get_info(device)[1])
    import psutil

    return int(psutil.virtual_memory().total)


def available_memory(device: "torch.device") -> int:
    """The bytes that this process could use on the device: those that are free plus those that it holds."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0]) + int(torch.cuda.memory_reserved(device))
    import psutil

    own = psutil.Process().memory_info()
    available = int(psutil.virtual_memory().available) + int(own.rss)
    if sys.platform != "win32":
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            available = min(available, limit - int(own.vms) + int(own.rss))
    return available
