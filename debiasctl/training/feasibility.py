"""Refusing a plan that is far too large for the machine, within a second, before anything of its size is made."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from debiasctl.api import DatasetInfo
from debiasctl.boundary import summary
from debiasctl.errors import PluginError, UsageError
from debiasctl.models.network_size import STATE_BYTES, counted, machine_memory, size_of
from debiasctl.specs.sections import RunSpec, embedded_classes, image_shape
from debiasctl.training.estimate import saved_bytes
from debiasctl.wording import format_bytes

TRAINED = {"cpu": 2, "cuda": 4}  # times the memory of the machine that a plan may take: estimates are rough on a GPU
PLANNED = 64  # the same, where nothing is trained: the plan may be for another machine
_FILLING = {Tensor.uniform_, Tensor.normal_, Tensor.zero_, Tensor.fill_}


def check_feasible(
    spec: RunSpec, info: DatasetInfo, *, device: torch.device, times: float, resumed: str | None = None
) -> None:
    """Check that the network and one batch take at most `times` the memory of the machine that trains on `device`.

    `resumed` names a run being resumed, whose settings stay.

    Raises:
        UsageError: if they take more, or the network has an absurd number of layers; the message gives the figures.
    """
    memory = _total_memory(device)
    larger = None if resumed is None else f"Resume run '{resumed}' on a machine with more memory"
    shape = image_shape(spec.model, image_size=info.image_size, channels=info.channels)
    num_classes = embedded_classes(spec.model, len(info.classes))
    limited = counted(times * memory, memory=memory, larger=larger)
    with _overflow_reported(), torch.device("meta"), _WithoutInitialisation(), limited:
        network: nn.Module = spec.model.backbone.create("backbones").build(shape, num_classes)
        x, t = torch.empty(1, info.channels, info.image_size, info.image_size), torch.empty(1)
        labels = torch.empty(1, dtype=torch.int64) if num_classes else None
        per_image = 4 * x.numel() + _traced_bytes(network, x, t, labels, out_channels=shape.out_channels)
    at_a_time = max(1, spec.training.batch_size // spec.compute.accumulation)
    needed = at_a_time * per_image + STATE_BYTES * sum(parameter.numel() for parameter in network.parameters())
    if needed > times * memory:
        fitting = int((memory - (needed - at_a_time * per_image)) // per_image)
        way_on = (
            f"choose a `training.batch_size` of at most about {fitting:,}"
            if fitting > 0
            else "choose a smaller `model.backbone` or smaller images"
        )
        raise UsageError(
            f"`training.batch_size={spec.training.batch_size}`: {at_a_time:,} images at a time take about "
            f"{size_of(needed)} ({format_bytes(per_image)} each), and this machine has {format_bytes(memory)}. "
            f"{larger or f'To train here, {way_on}'}"
        )


def _traced_bytes(network: nn.Module, x: Tensor, t: Tensor, labels: Tensor | None, *, out_channels: int) -> int:
    """The bytes that a forward pass saves; 0, an underestimate, for a plugin's network that needs real numbers."""
    try:
        return saved_bytes(network, x, t, labels, out_channels=out_channels)
    except PluginError as error:
        if "meta" not in summary(error.__cause__ or error):
            raise
        return 0


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


def _total_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.device_count() * int(torch.cuda.mem_get_info(device)[1])
    return machine_memory()
