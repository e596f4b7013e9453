"""Refusing a network of absurd size while it is being made, before it takes the machine's memory or time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

from debiasctl.errors import PluginError, UsageError
from debiasctl.wording import format_bytes

MAX_TENSORS = 5_000  # parameters and buffers of a network; DiT-XL has 340, and ADM for 512 px 600
STATE_BYTES = 16  # of each parameter: weights, gradients and the optimizer's two moments
WEIGHT_BYTES = 4  # of each parameter
_FILLING = {Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_}


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


@contextmanager
def sketched(
    limit: float, *, memory: int, per_parameter: int = STATE_BYTES, larger: str | None = None
) -> Iterator[None]:
    """Count, as `counted` does, what is made without memory on torch's meta device, within a second for any size.

    Raises:
        UsageError: as `counted`, and if a size is more than torch can state.
    """
    limited = counted(limit, memory=memory, per_parameter=per_parameter, larger=larger)
    with _overflow_reported(), torch.device("meta"), _WithoutInitialisation(), limited:
        yield


def size_of(count: float) -> str:
    """A number of bytes, in TB where it is so many."""
    return f"{count / 1e12:,.1f} TB" if count >= 1e12 else format_bytes(count)


class _WithoutInitialisation(TorchFunctionMode):
    """Leaves tensors as they are made: filling one takes a millisecond even where it has no memory."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, unless it fills a tensor."""
        return args[0] if func in _FILLING else func(*args, **(kwargs or {}))


@contextmanager
def _overflow_reported() -> Iterator[None]:
    """Report a size that torch cannot even state."""
    try:
        yield
    except (RuntimeError, TypeError, OverflowError, ValueError, PluginError) as error:
        if "overflow" not in str(error).lower() and "too large" not in str(error).lower():
            raise
        raise UsageError(
            "`model.backbone`: the network has tensors of more than 2^63 bytes. Choose a smaller one, or smaller images"
        ) from error
