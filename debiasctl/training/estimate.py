"""Estimates of a training's needs, made without training: the network's size and the memory of one step."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from debiasctl.api import DatasetInfo
from debiasctl.boundary import summary
from debiasctl.diffusion.modules import run_network
from debiasctl.errors import ModelError, PluginError
from debiasctl.models.network_size import WEIGHT_BYTES
from debiasctl.models.outside_code import trusted_backbone
from debiasctl.specs.latents import trained_info
from debiasctl.specs.sections import RunSpec, embedded_classes, image_shape

_VALUE_BYTES = {"uint8": 1, "float32": 4}


@dataclass(frozen=True)
class Estimate:
    """Counts, and memory in bytes by its use; `total` is the sum."""

    parameters: int
    steps: int
    images: int
    epochs: float
    memory: dict[str, int]

    @property
    def total(self) -> int:
        """The total memory in bytes."""
        return sum(self.memory.values())


def estimate(spec: RunSpec, info: DatasetInfo) -> Estimate:
    """Build the network without memory (on torch's meta device), and trace one batch through it.

    Activations are the tensors that autograd saves for the backward pass, with each storage counted once; 0 if the
    network needs real numbers.
    """
    info = trained_info(spec, info)
    shape = image_shape(spec.model, image_size=info.image_size, channels=info.channels)
    num_classes = embedded_classes(spec.model, len(info.classes))
    backbone = trusted_backbone(spec)
    with torch.device("meta") if backbone.code_sha256() is None else nullcontext():
        network: nn.Module = backbone.build(shape, num_classes).to("meta")
    with torch.device("meta"):
        x = torch.empty(spec.training.batch_size, info.channels, info.image_size, info.image_size)
        t = torch.empty(spec.training.batch_size)
        labels = torch.empty(spec.training.batch_size, dtype=torch.int64) if num_classes else None
    parameters = sum(parameter.numel() for parameter in network.parameters())
    state = state_bytes(spec, parameters)
    image_bytes = _VALUE_BYTES[info.value_type] * info.channels * info.image_size**2
    images = spec.training.steps * spec.training.batch_size
    memory = {
        **state,
        "checkpoint": sum(state.values()) - state["gradients"],  # all of it but them, copied for writing
        "activations": traced_bytes(network, x, t, labels, out_channels=shape.out_channels),
        "data": (info.num_train + info.num_heldout) * image_bytes,
        "process": _process_bytes(),
    }
    return Estimate(parameters, spec.training.steps, images, images / max(1, info.num_train), memory)


def state_bytes(spec: RunSpec, parameters: int) -> dict[str, int]:
    """The memory that stays from step to step, by its use, of a network of so many parameters."""
    weights = WEIGHT_BYTES * parameters
    averages = len(spec.ema.lengths) if spec.ema.kind == "power" else 1
    return {"weights": weights, "gradients": weights, "optimizer": 2 * weights, "ema": averages * weights}


def _process_bytes() -> int:
    """The resident memory of this process after training's imports; making an optimizer imports half of torch."""
    import psutil

    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    return int(psutil.Process().memory_info().rss)


def traced_bytes(network: nn.Module, x: Tensor, t: Tensor, labels: Tensor | None, *, out_channels: int) -> int:
    """The bytes that a forward pass saves; 0, an underestimate, for a network that needs real numbers."""
    try:
        return saved_bytes(network, x, t, labels, out_channels=out_channels)
    except (PluginError, ModelError) as error:
        if "meta" not in summary(error.__cause__ or error):
            raise
        return 0


def saved_bytes(network: nn.Module, x: Tensor, t: Tensor, labels: Tensor | None, *, out_channels: int) -> int:
    """Count the bytes that autograd saves in one forward pass, without parameters."""
    parameters = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    saved: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = storage  # kept alive, so that no other storage reuses its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run_network(network, x, t, labels, out_channels=out_channels)
    return sum(storage.nbytes() for storage in saved.values())
