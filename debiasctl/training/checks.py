"""Checks that run before any part of a training is built or any process started."""

from debiasctl.errors import UsageError
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec


def check_resumable(run: Run, spec: RunSpec) -> None:
    """Check that a run has a training that could be resumed.

    Raises:
        UsageError: if it holds a model from elsewhere.
    """
    if spec.imported is not None:
        raise UsageError(
            f"run '{run.name}' holds a model from elsewhere, without the state of its training, which therefore cannot "
            f"be resumed. Start a new run from its weights: `init_from={run.typed}`"
        )


def check_sharing(spec: RunSpec, num_processes: int, *, resumed: str | None = None) -> None:
    """Check that the weights and the batch can be split among the processes; `resumed` names a run being resumed.

    Raises:
        UsageError: if they cannot.
    """
    if spec.compute.sharding == "fsdp" and num_processes == 1:
        ways = (
            "or leave it out"
            if resumed is None
            else f"or start a new run from its weights: `init_from={resumed}` `compute.sharding=none`"
        )
        raise UsageError(
            "compute.sharding=fsdp shards the weights over processes, but there is only one. Start several: "
            f"`processes=N`, torchrun or accelerate launch; {ways}"
        )
    size, parts = spec.training.batch_size, spec.compute.accumulation
    if size % num_processes:
        way_on = (
            "Choose `training.batch_size` as a multiple of their number"
            if resumed is None
            else f"Resume run '{resumed}' with a number of processes that divides its batch"
        )
        raise UsageError(f"a batch of {size} cannot be split evenly among {num_processes} processes. {way_on}")
    share = size // num_processes
    if parts > share:
        way_on = f"Give at most `compute.accumulation={share}`" if resumed is None else "Resume it with fewer processes"
        raise UsageError(
            f"compute.accumulation={parts}: each process gets {_images(share)} of the batch, which cannot be split "
            f"into {parts} parts. {way_on}"
        )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
