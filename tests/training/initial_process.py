"""One of two processes that start from one run's average, which only the first may write."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from debiasctl.errors import UsageError
from debiasctl.runs.store import Run
from debiasctl.training import initial


def main(rank: int, path: Path, meeting: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    if rank == 1:

        def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("only the first process may write")

        initial.store_average = refuse  # type: ignore[assignment]
    state, about = initial.initial_weights(Run(path), "ema:0.08")
    try:
        message = str(initial.initial_weights(Run(path), "ema:0.28"))
    except UsageError as error:
        message = str(error)
    total = sum(float(tensor.double().sum()) for tensor in state.values())
    print(json.dumps({"about": about.model_dump(), "sum": total, "message": message}))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
