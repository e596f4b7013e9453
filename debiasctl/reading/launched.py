"""The numbers that a launcher of processes, such as torchrun, sets in the environment."""

import os

from debiasctl.errors import UsageError
from debiasctl.wording import quoted

# all that Accelerate reads as numbers
_NUMBERS = (
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT"),
    *("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    *("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"),
    *("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_LOCAL_SIZE"),
)


def launched() -> tuple[int, int]:
    """This process's number among those that a launcher started, and their number; (0, 1) without a launcher.

    Raises:
        UsageError: if a variable that a launcher sets holds no number, or they contradict one another.
    """
    found = {name: _number(name) for name in _NUMBERS}
    rank, size = found["RANK"] or 0, 1 if found["WORLD_SIZE"] is None else found["WORLD_SIZE"]
    if rank >= size:
        raise UsageError(
            f"the environment variables RANK and WORLD_SIZE say that this is process {rank} of {size}, and the first "
            "is 0. torchrun sets them; for one process, unset them"
        )
    return rank, size


def _number(name: str) -> int | None:
    text = os.environ.get(name, "").strip()
    if not text or (name == "LOCAL_RANK" and text == "-1"):  # Accelerate's word for none
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise UsageError(
            f"the environment variable {name} is {quoted(text)}, and must be a whole number, 0 or more, as torchrun "
            "sets it. Correct or unset it"
        )
    return int(text)
