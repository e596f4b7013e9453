"""Starting a command in several processes of this machine, by torchrun."""

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from debiasctl.cli.interruption import leading
from debiasctl.cli.options import FLAGS
from debiasctl.cli.streams import share_stdout
from debiasctl.compute.signals import handling
from debiasctl.errors import UsageError
from debiasctl.reading.launched import launched
from debiasctl.wording import quoted

if TYPE_CHECKING:
    import torch

    from debiasctl.specs.sections import RunSpec

_LAUNCHED = "TORCHELASTIC_RUN_ID"  # set in every process that torchrun started
_OURS = "debiasctl-"  # what it begins with where --processes started torchrun
_PATIENCE_SECONDS = "300"  # for the last checkpoint, after a signal
_FEWEST_CORES = 8  # so many processes may be tried on any machine
_KEPT = "What was drawn is kept: repeat the command to resume"
_RESUME = "The last checkpoint is untouched. Resume with: debiasctl train --resume RUN"


def rank() -> int:
    """This process's number among those that work together; process 0 alone writes and prints.

    Raises:
        UsageError: if the environment's numbers of processes cannot be read.
    """
    return launched()[0]


def processes_here() -> int:
    """The number of processes that --processes started, of which this is one; else 1."""
    return launched()[1] if os.environ.get(_LAUNCHED, "").startswith(_OURS) else 1


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


def this_command() -> list[str]:
    """The command line for each of the processes that take the place of this one."""
    return without_option(sys.argv[1:], FLAGS["processes"])


def check_devices(processes: int, *, device: str) -> "torch.device":
    """The kind of device that each of so many processes will work on.

    Raises:
        UsageError: if torchrun started this process, or there are fewer GPUs, or far fewer CPU cores.
    """
    if processes > 1 and _LAUNCHED in os.environ:
        raise UsageError("--processes starts torchrun, and torchrun has started this already. Leave --processes out")
    import torch

    from debiasctl.compute.device import choose_device

    chosen = choose_device(device)
    if chosen.index is not None and (processes > 1 or _LAUNCHED in os.environ):
        raise UsageError(
            f"--device {device} is one GPU, and each of several processes takes its own. Use --device cuda"
        )
    if chosen.type == "cuda" and processes > torch.cuda.device_count():
        raise UsageError(
            f"--processes {processes}: this machine has {torch.cuda.device_count()} GPUs, and each process takes one. "
            "Give at most as many, or --device cpu"
        )
    most = max(os.cpu_count() or 1, _FEWEST_CORES)
    if processes > most:
        raise UsageError(
            f"--processes {quoted(processes, mark='', limit=30)}: this machine has {os.cpu_count()} CPU cores, and "
            f"more processes than that are only slower. Give at most {most}"
        )
    return chosen


def check_launch(
    spec: "RunSpec", *, processes: int, device: str, trackers: Sequence[str], resumed: str | None = None
) -> None:
    """Check, before any process starts, that so many can train; `resumed` names the run being resumed.

    Raises:
        UsageError: if `check_devices` or a check in `debiasctl.training.checks` or `debiasctl.compute` fails.
    """
    chosen = check_devices(processes, device=device)
    from debiasctl.compute.device import check_environment, check_precision, check_trackers
    from debiasctl.training.checks import check_sharing

    check_environment()
    check_precision(spec.compute, chosen, resumed=resumed)
    check_trackers(trackers)
    _, num_launched = launched()
    check_sharing(spec, processes if processes > 1 else num_launched, resumed=resumed)


@contextlib.contextmanager
def sigterm_reported() -> Iterator[None]:
    """Exit with one line and 128 + the number on SIGTERM until torchrun handles it.

    Otherwise the process would end silently.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        print("error: stopped by SIGTERM before training began; nothing was written", file=sys.stderr, flush=True)
        os._exit(128 + number)  # at once: an exception could end as the fault of the plugin that is being imported

    with handling(("SIGTERM",), stop):
        yield


def launch_all(processes: int, *, device: str) -> NoReturn:
    """Run this very command in several processes, and exit as they do; raises what `check_devices` raises."""
    check_devices(processes, device=device)
    sys.exit(launch(this_command(), processes=processes, advice=_KEPT))


def launch(arguments: Sequence[str], *, processes: int, advice: str = _RESUME) -> int:
    """Run `debiasctl ARGUMENTS` in several processes, after the checks above; returns the exit code.

    `advice` is printed if a process was killed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from debiasctl.api import num_cores

    share_stdout()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, num_cores() // processes)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", _PATIENCE_SECONDS)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=f"{_OURS}{uuid.uuid4().hex}",
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
        with leading():
            elastic_launch(config, sys.executable)("-m", "debiasctl", *arguments)
    except ChildFailedError as error:
        first = min(error.failures.values(), key=lambda failure: failure.timestamp)
        if first.exitcode >= 0:
            return first.exitcode
        name = signal.Signals(-first.exitcode).name
        print(
            f"error: process {first.local_rank} was killed by {name}, perhaps because memory ran out. {advice}",
            file=sys.stderr,
        )
        return 128 - first.exitcode
    except SignalException as error:
        stopped = signal.Signals(error.sigval)
        if stopped != signal.SIGINT:  # which the command line reports itself
            # the first process, once it has begun, has said more; before that it ends silently
            print(f"stopped by {stopped.name}", file=sys.stderr)
        return 128 + int(stopped)
    return 0
