"""Advice for when memory runs out: an accumulation or batch size that would fit."""

from typing import TYPE_CHECKING

import torch

from debiasctl.api import DatasetInfo
from debiasctl.compute.memory import available_memory
from debiasctl.specs.sections import RunSpec
from debiasctl.training.estimate import Estimate, estimate
from debiasctl.wording import format_bytes

if TYPE_CHECKING:
    from debiasctl.training.training import Training

_PROCESS_BYTES = 750 * 10**6  # resident after importing torch and everything else, on Linux
_NOT_ON_GPU = ("process", "checkpoint")
_SHARE = 0.9  # the usable part of the memory: the estimate does not include the kernels' workspace


def out_of_memory(training: "Training", info: DatasetInfo, *, step: int) -> str:
    """The message for a training that ran out of memory at `step`."""
    spec, accelerator = training.spec, training.accelerator
    advice = memory_advice(
        spec,
        estimate(spec, info),
        available=available_memory(accelerator.device),
        device=accelerator.device,
        num_processes=accelerator.num_processes,
    )
    number = _at_a_time(spec, accelerator.num_processes)
    return f"out of memory at step {step} with {number} images at a time. The last checkpoint is untouched. {advice}"


def memory_advice(
    spec: RunSpec, plan: Estimate, *, available: int, device: torch.device, num_processes: int = 1
) -> str:
    """Advise how many images at a time fit into `available` bytes, and by which setting.

    `plan` is the estimate for the whole batch in one process. The images of a process are known not to have fitted, so
    if the estimate says that they fit, its part per image is scaled up until they only just do.
    """
    memory = dict(plan.memory)
    memory["process"] = min(memory["process"], _PROCESS_BYTES)  # by now it holds the training as well
    if device.type != "cpu":
        memory = {part: size for part, size in memory.items() if part not in _NOT_ON_GPU}
    per_image = memory.pop("activations") / spec.training.batch_size
    fixed = sum(memory.values())
    share = spec.training.batch_size // num_processes
    failed = _at_a_time(spec, num_processes)
    per_image = max(per_image, (available - fixed) / failed)
    there_is = f"of the {format_bytes(available)} available"
    fitting = [
        number
        for number in range(1, failed)
        if share % number == 0 and fixed + number * per_image <= _SHARE * available
    ]
    if not fitting:
        return (
            f"Even one image at a time takes about {format_bytes(fixed + per_image)} {there_is}, {format_bytes(fixed)} "
            "of it for the weights, their averages, gradients and optimizer state. Choose a smaller `model.backbone`"
        )
    number = fitting[-1]
    return (
        f"Try `compute.accumulation={share // number}`: {number} image{'s' if number > 1 else ''} at a time, about "
        f"{format_bytes(fixed + number * per_image)} {there_is}, with the same optimisation. "
        f"A smaller batch changes it: `training.batch_size={number * num_processes}`"
    )


def _at_a_time(spec: RunSpec, num_processes: int) -> int:
    """The number of images in one forward pass."""
    return max(1, spec.training.batch_size // num_processes // spec.compute.accumulation)
