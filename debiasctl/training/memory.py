"""Advice for when memory runs out: an accumulation or batch size that would fit."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from debiasctl.api import DatasetInfo
from debiasctl.compute import memory
from debiasctl.compute.memory import available_memory, is_out_of_memory
from debiasctl.errors import TrainingError
from debiasctl.specs.sections import RunSpec
from debiasctl.training.estimate import Estimate, estimate
from debiasctl.wording import format_bytes

if TYPE_CHECKING:
    from debiasctl.training.training import Training

_PROCESS_BYTES = 750 * 10**6  # resident after importing torch and everything else, on Linux
_NOT_ON_GPU = ("process", "checkpoint")
_SHARE = 0.9  # the usable part of the memory: the estimate does not include the kernels' workspace


@contextlib.contextmanager
def building_reported(spec: RunSpec, info: DatasetInfo, *, device: torch.device) -> Iterator[None]:
    """Report a lack of memory while a training is built, before its first step, with what it would need.

    Raises:
        TrainingError: if memory runs out.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        advice = "Choose a smaller `model.backbone`"
        with contextlib.suppress(MemoryError, RuntimeError):  # there may be too little memory for the estimate itself
            plan = estimate(spec, info)
            parts = _on_device(plan, device)
            listed = ", ".join(f"{part} {format_bytes(size)}" for part, size in parts.items())
            advice = (
                f"{spec.model.backbone.name} of {plan.parameters:,} parameters with {spec.training.batch_size} images "
                f"at a time needs about {format_bytes(sum(parts.values()))} ({listed}); "
                f"{format_bytes(available_memory(device))} are available. Choose a smaller `model.backbone`, or a "
                "smaller `training.batch_size` or a larger `compute.accumulation` where activations are most of it"
            )
        raise TrainingError(str(memory.out_of_memory(error, doing="before the first step", advice=advice))) from error


def out_of_memory(training: "Training", info: DatasetInfo, *, step: int) -> str:
    """The message for a training that ran out of memory at `step`."""
    spec, accelerator = training.spec, training.accelerator
    advice = "Choose a larger `compute.accumulation`, or a smaller `training.batch_size`"
    with contextlib.suppress(MemoryError, RuntimeError):  # there may be too little memory for the estimate itself
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
    parts = _on_device(plan, device)
    per_image = parts.pop("activations") / spec.training.batch_size
    fixed = sum(parts.values())
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


def _on_device(plan: Estimate, device: torch.device) -> dict[str, int]:
    """The parts that lie in the device's memory."""
    parts = plan.memory | {"process": min(plan.memory["process"], _PROCESS_BYTES)}  # by now it holds the training too
    return {part: size for part, size in parts.items() if device.type == "cpu" or part not in _NOT_ON_GPU}


def _at_a_time(spec: RunSpec, num_processes: int) -> int:
    """The number of images in one forward pass."""
    return max(1, spec.training.batch_size // num_processes // spec.compute.accumulation)
