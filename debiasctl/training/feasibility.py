"""Refusing a plan that is far too large for the machine, within a second, before anything of its size is made."""

import torch
from torch import nn

from debiasctl.api import DatasetInfo
from debiasctl.compute.memory import total_memory
from debiasctl.errors import UsageError
from debiasctl.models.network_size import STATE_BYTES, counted, size_of, sketched
from debiasctl.models.outside_code import trusted_backbone
from debiasctl.specs.latents import trained_info
from debiasctl.specs.sections import RunSpec, embedded_classes, image_shape
from debiasctl.training.estimate import traced_bytes
from debiasctl.wording import format_bytes

TRAINED = {"cpu": 2, "cuda": 4}  # times the memory of the machine that a plan may take: estimates are rough on a GPU
PLANNED = 64  # the same, where nothing is trained: the plan may be for another machine


def check_feasible(
    spec: RunSpec, info: DatasetInfo, *, device: torch.device, times: float, resumed: str | None = None
) -> None:
    """Check that the network and one batch take at most `times` the memory of the machine that trains on `device`.

    `resumed` names a run being resumed, whose settings stay.

    Raises:
        UsageError: if they take more, or the network has an absurd number of layers; the message gives the figures.
        ModelError: if the network runs code that nobody has named here.
    """
    memory = total_memory(device)
    larger = None if resumed is None else f"Resume run '{resumed}' on a machine with more memory"
    info = trained_info(spec, info)
    shape = image_shape(spec.model, image_size=info.image_size, channels=info.channels)
    num_classes = embedded_classes(spec.model, len(info.classes))
    backbone = trusted_backbone(spec)
    limited = sketched if backbone.code_sha256() is None else counted
    with limited(times * memory, memory=memory, larger=larger):
        network: nn.Module = backbone.build(shape, num_classes).to("meta")
    with sketched(times * memory, memory=memory, larger=larger):
        x, t = torch.empty(1, info.channels, info.image_size, info.image_size), torch.empty(1)
        labels = torch.empty(1, dtype=torch.int64) if num_classes else None
        per_image = 4 * x.numel() + traced_bytes(network, x, t, labels, out_channels=shape.out_channels)
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
