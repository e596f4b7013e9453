"""Refusing a network of absurd size while it is being made, before it takes the machine's memory or time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as registration

from debiasctl.errors import UsageError
from debiasctl.wording import format_bytes

MAX_TENSORS = 5_000  # parameters and buffers of a network; DiT-XL has 340, and ADM for 512 px 600
STATE_BYTES = 16  # of each parameter: weights, gradients and the optimizer's two moments
WEIGHT_BYTES = 4  # of each parameter


@contextmanager
def counted(
    limit: float, *, memory: int, per_parameter: int = STATE_BYTES, larger: str | None = None
) -> Iterator[None]:
    """Count the parameters and buffers of modules as they are made, and refuse too many of them.

    `larger` is the way on where the network is that of a stored run, whose settings stay.

    Raises:
        UsageError: if they are more than any network's, or take more than `limit` bytes, `per_parameter` each.
    """
    tensors = elements = 0

    def count(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal tensors, elements
        if tensor is None:
            return
        tensors += 1
        elements += tensor.numel()
        if tensors > MAX_TENSORS:
            raise UsageError(
                f"`model.backbone`: the network has more than {MAX_TENSORS:,} tensors of parameters, in far more "
                "layers than networks that are trained. "
                f"{'Check the spec of the run' if larger else 'Choose a smaller one'}"
            )
        if per_parameter * elements > limit:
            whole = size_of(per_parameter * elements)
            training = f", and {whole} in training" if per_parameter > WEIGHT_BYTES else ""
            raise UsageError(
                f"`model.backbone`: the network has more than {elements:,} parameters, which take "
                f"{size_of(WEIGHT_BYTES * elements)}{training}; this machine has {format_bytes(memory)}. "
                f"{larger or 'Choose a smaller one'}"
            )

    handles: list[Any] = [
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def machine_memory() -> int:
    """The bytes of main memory."""
    import psutil

    return int(psutil.virtual_memory().total)


def size_of(count: float) -> str:
    """A number of bytes, in TB where it is so many."""
    return f"{count / 1e12:,.1f} TB" if count >= 1e12 else format_bytes(count)
