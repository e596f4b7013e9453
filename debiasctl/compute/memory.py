"""Available memory, and recognising out-of-memory errors."""

import sys

import torch

from debiasctl.boundary import summary
from debiasctl.errors import PluginError


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means out of memory, in a plugin too, including the plain RuntimeError of the CPU allocator."""
    if isinstance(error, PluginError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in summary(error)


def available_memory(device: torch.device) -> int:
    """The bytes that this process could use on the device: those that are free plus those that it holds."""
    if device.type == "cuda":
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
