"""Communication between cooperating processes: rank, number, barrier, broadcast and gather."""

from datetime import timedelta
from typing import TypeVar

from torch import distributed

PATIENCE = timedelta(hours=12)  # how long processes wait while the first one downloads, decodes or evaluates
Value = TypeVar("Value")


def rank() -> int:
    """This process's number; 0 if it runs alone."""
    return distributed.get_rank() if _grouped() else 0


def size() -> int:
    """The number of cooperating processes."""
    return distributed.get_world_size() if _grouped() else 1


def wait() -> None:
    """Wait until all processes have reached this call."""
    if _grouped():
        distributed.barrier()


def agreed(value: Value) -> Value:
    """Broadcast the first process's value to all."""
    if not _grouped():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def gathered(value: Value) -> list[Value]:
    """Gather every process's value on the first process, in rank order; the others get a list of only their own."""
    if not _grouped():
        return [value]
    # through host memory, regardless of the device in use
    everyone = distributed.new_group(backend="gloo", timeout=PATIENCE)
    found: list[Value] | None = [value] * size() if rank() == 0 else None
    distributed.gather_object(value, found, group=everyone)  # type: ignore[arg-type]  # None: not in the group
    distributed.destroy_process_group(everyone)
    return [value] if found is None else found


def _grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()
