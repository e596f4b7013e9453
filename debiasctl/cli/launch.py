"""Starting a command in several processes of this machine, by torchrun."""

import os
import signal
import sys
import uuid
from collections.abc import Sequence

from debiasctl.errors import UsageError

_LAUNCHED = "TORCHELASTIC_RUN_ID"  # set in every process that torchrun started
_PATIENCE_SECONDS = "300"  # for the last checkpoint, after a signal
_GO_ON = "The last checkpoint is untouched. Go on with: debiasctl train --resume RUN"


def rank() -> int:
    """This process's number among those that work together; 0 is the one that writes and speaks."""
    return int(os.environ.get("RANK", "0"))


def without_option(arguments: Sequence[str], option: str) -> list[str]:
    """The command line without `option VALUE` and `option=VALUE`."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == option:
            skip = True
        elif not argument.startswith(f"{option}="):
            kept.append(argument)
    return kept


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launch(arguments: Sequence[str], *, processes: int, device: str, go_on: str = _GO_ON) -> int:
    """Run `debiasctl ARGUMENTS` in several processes; returns its exit code. `go_on` is advice where one was killed.

    Raises:
        UsageError: torchrun is already at work, or there are not as many GPUs.
    """
    if _LAUNCHED in os.environ:
        raise UsageError("--processes starts torchrun, and torchrun has started this already. Leave --processes out")
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from debiasctl.training.setup import choose_device

    if choose_device(device).type == "cuda" and processes > torch.cuda.device_count():
        raise UsageError(
            f"--processes {processes}: this machine has {torch.cuda.device_count()} GPUs, and each process takes one. "
            "Give at most as many, or --device cpu"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // processes)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _PATIENCE_SECONDS)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
        start_method="spawn",
        logs_specs=DefaultLogsSpecs(),
    )
    import logging

    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the first process says what went wrong
    try:
        elastic_launch(config, sys.executable)("-m", "debiasctl", *arguments)
    except ChildFailedError as error:
        first = min(error.failures.values(), key=lambda failure: failure.timestamp)
        if first.exitcode >= 0:
            return first.exitcode
        name = signal.Signals(-first.exitcode).name
        print(
            f"error: process {first.local_rank} was killed by {name}, perhaps for want of memory. {go_on}",
            file=sys.stderr,
        )
        return 128 - first.exitcode
    except SignalException as error:
        return 128 + int(signal.Signals(error.sigval))
    return 0
