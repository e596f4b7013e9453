"""What to do when memory runs out: which accumulation or batch size would fit."""

from typing import TYPE_CHECKING

import torch

from debiasctl.api import DatasetInfo
from debiasctl.compute.memory import available_memory
from debiasctl.reporting.text import format_bytes
from debiasctl.specs.sections import RunSpec
from debiasctl.training.estimate import Estimate, estimate

if TYPE_CHECKING:
    from debiasctl.training.training import Training

_PROCESS_BYTES = 750 * 10**6  # resident once torch and the rest are imported, on Linux
_NOT_ON_GPU = ("process", "checkpoint")
_SHARE = 0.9  # of the memory there is that may be planned with: the estimate knows no work space of kernels


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
    """Which number of images at a time fits into `available` bytes, and the setting that gives it.

    `plan` is the estimate for the whole batch in one process. That a process's images did not fit is known, so where
    the estimate says that they do, what grows with them is scaled up until they just do.
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
    there_is = f"of the {format_bytes(available)} there is"
    fitting = [
        number
        for number in range(1, failed)
        if share % number == 0 and fixed + number * per_image <= _SHARE * available
    ]
    if not fitting:
        return (
            f"Even one image at a time takes about {format_bytes(fixed + per_image)} {there_is}, "
            f"{format_bytes(fixed)} of it the weights and what comes with each of them. "
            "Choose a smaller `model.backbone`"
        )
    number = fitting[-1]
    return (
        f"Try `compute.accumulation={share // number}`: {number} image{'s' if number > 1 else ''} at a time, about "
        f"{format_bytes(fixed + number * per_image)} {there_is}, the same optimisation. A batch that small is another: "
        f"`training.batch_size={number * num_processes}`"
    )


def _at_a_time(spec: RunSpec, num_processes: int) -> int:
    """Images of one forward pass."""
    return max(1, spec.training.batch_size // num_processes // spec.compute.accumulation)
