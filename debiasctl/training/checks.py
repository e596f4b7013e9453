"""What can be refused before anything of a training is made, or any process started."""

import os
from collections.abc import Sequence

import torch

from debiasctl.errors import UsageError
from debiasctl.specs import ComputeSection, RunSpec
from debiasctl.validation import did_you_mean

_OVERRIDES = (
    "ACCELERATE_USE_FSDP",
    "ACCELERATE_USE_DEEPSPEED",
    "ACCELERATE_USE_MEGATRON_LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG",
)
_TRUE = {"1", "true", "t", "yes", "y", "on"}


def check_environment() -> None:
    """See that no environment variable makes Accelerate compute otherwise than the spec says.

    Raises:
        UsageError: one does; configurations of `accelerate launch` set them.
    """
    for name in _OVERRIDES:
        if os.environ.get(name, "").strip().lower() in _TRUE:
            raise UsageError(
                f"the environment variable {name} is set, as configurations of accelerate launch do, and would change "
                "what no spec records. Unset it, or choose another configuration. To share the weights out among "
                "processes: --set compute.sharding=fsdp"
            )


def check_precision(compute: ComputeSection, device: torch.device, *, resumed: str | None = None) -> None:
    """See that the device computes in the precision asked for; `resumed` names the run that is gone on with.

    Raises:
        UsageError: it does not.
    """
    if device.type != "cpu" or compute.precision not in ("fp16", "tf32"):
        return
    if resumed is None:
        raise UsageError(f"--precision {compute.precision} needs a CUDA GPU. On a CPU choose fp32, bf16 or fp64")
    raise UsageError(
        f"run '{resumed}' is trained in {compute.precision}, which needs a CUDA GPU, and is to go on in it. Resume it "
        f"on one (--device cuda), or start a new run from its weights: --init-from {resumed} --precision fp32"
    )


def check_sharing(spec: RunSpec, num_processes: int, *, resumed: str | None = None) -> None:
    """See that weights and batch can be shared out among the processes; `resumed` names the run that is gone on with.

    Raises:
        UsageError: they cannot.
    """
    if spec.compute.sharding == "fsdp" and num_processes == 1:
        ways = (
            "or leave it out"
            if resumed is None
            else f"or start a new run from its weights: --init-from {resumed} --set compute.sharding=none"
        )
        raise UsageError(
            "compute.sharding=fsdp shares the weights out among processes, and this is only one. Start several: "
            f"--processes N, torchrun or accelerate launch; {ways}"
        )
    size, parts = spec.training.batch_size, spec.compute.accumulation
    if size % num_processes:
        way_on = (
            "Choose --batch-size as a multiple of their number"
            if resumed is None
            else f"Resume run '{resumed}' in a number of processes that divides its batch"
        )
        raise UsageError(f"a batch of {size} cannot be shared evenly by {num_processes} processes. {way_on}")
    share = size // num_processes
    if parts > share:
        way_on = f"Give at most --accumulation {share}" if resumed is None else "Resume it in fewer processes"
        raise UsageError(
            f"compute.accumulation={parts}: a process's share of the batch is {_images(share)}, which cannot be "
            f"computed in {parts} parts. {way_on}"
        )


def check_trackers(names: Sequence[str]) -> list[str]:
    """The trackers' names, each known to Accelerate and installed.

    Raises:
        UsageError: one is not.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    available = list(map(str, get_available_trackers()))
    for name in names:
        if name not in known:
            raise UsageError(f"unknown tracker '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}")
        if name not in available:
            raise UsageError(f"--track {name}: its package is not installed here. For example: pip install {name}")
    return list(names)


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
