"""Several processes that work on one thing: which of them this is, and what they tell each other."""

from datetime import timedelta
from typing import TypeVar

from torch import distributed

PATIENCE = timedelta(hours=12)  # of processes that wait for the first: to download, decode or evaluate
Value = TypeVar("Value")


def rank() -> int:
    """This process's number; 0 where it works alone."""
    return distributed.get_rank() if _grouped() else 0


def size() -> int:
    """How many work together."""
    return distributed.get_world_size() if _grouped() else 1


def wait() -> None:
    """Until all of them are here."""
    if _grouped():
        distributed.barrier()


def agreed(value: Value) -> Value:
    """The first process's value."""
    if not _grouped():
        return value
    values = [value]
    distributed.broadcast_object_list(values)
    return values[0]


def gathered(value: Value) -> list[Value]:
    """Every process's value, in their order, on the first one; on the others their own alone."""
    if not _grouped():
        return [value]
    # from memory to memory, whatever device the processes work on
    everyone = distributed.new_group(backend="gloo", timeout=PATIENCE)
    found: list[Value] | None = [value] * size() if rank() == 0 else None
    distributed.gather_object(value, found, group=everyone)  # type: ignore[arg-type]  # None: not in the group
    distributed.destroy_process_group(everyone)
    return [value] if found is None else found


def _grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()
