"""What can be refused before anything of a training is made, or any process started."""

from debiasctl.errors import UsageError
from debiasctl.specs.sections import RunSpec


def check_sharing(spec: RunSpec, num_processes: int, *, resumed: str | None = None) -> None:
    """See that weights and batch can be shared out among the processes; `resumed` names the run that is gone on with.

    Raises:
        UsageError: they cannot.
    """
    if spec.compute.sharding == "fsdp" and num_processes == 1:
        ways = (
            "or leave it out"
            if resumed is None
            else f"or start a new run from its weights: `init_from={resumed}` `compute.sharding=none`"
        )
        raise UsageError(
            "compute.sharding=fsdp shards the weights over processes, and this is only one. Start several: "
            f"`processes=N`, torchrun or accelerate launch; {ways}"
        )
    size, parts = spec.training.batch_size, spec.compute.accumulation
    if size % num_processes:
        way_on = (
            "Choose `training.batch_size` as a multiple of their number"
            if resumed is None
            else f"Resume run '{resumed}' in a number of processes that divides its batch"
        )
        raise UsageError(f"a batch of {size} cannot be shared evenly by {num_processes} processes. {way_on}")
    share = size // num_processes
    if parts > share:
        way_on = f"Give at most `compute.accumulation={share}`" if resumed is None else "Resume it in fewer processes"
        raise UsageError(
            f"compute.accumulation={parts}: a process's share of the batch is {_images(share)}, which cannot be "
            f"computed in {parts} parts. {way_on}"
        )


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
