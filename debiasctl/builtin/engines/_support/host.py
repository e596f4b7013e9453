"""What runs a job on another machine: a worker, as the engine `local` has them, that the sweep can stop."""

import importlib.metadata
import os
import platform
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from debiasctl.api import Job, JobEvent, PluginOptions, Workplace
from debiasctl.builtin.engines._support.post import Outcome, Post
from debiasctl.builtin.engines.local import Local

_FOLDERS = {"DEBIASCTL_DATA", "DEBIASCTL_HOME"}
_PACE = 1.0  # seconds between two reports of progress, and between two looks at the sweep's wish
OUT_OF_TIME = "its machine's time ran out"


def own_version() -> str:
    """The version of debiasctl on this machine."""
    return importlib.metadata.version("debiasctl")


def carried() -> dict[str, str]:
    """The environment variables that say where a worker finds the store, here and on other machines alike.

    Folders are given whole, since a worker need not start in the folder that this process works in.
    """
    names = {name for name in os.environ if name.startswith("DEBIASCTL_")}
    if "DEBIASCTL_HOME" not in names:
        names |= {"HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"} & os.environ.keys()
    found = {name: os.environ[name] for name in sorted(names)}
    for name in _FOLDERS & found.keys():
        if found[name]:
            found[name] = os.path.abspath(os.path.expanduser(found[name]))
    return found


def perform_order(order: Mapping[str, Any]) -> dict[str, Any]:
    """Run one job in a worker of its own, until a signal by which SLURM announces that it wants the machine.

    SIGTERM comes before a preemption, and one that submitit chooses (SIGUSR2, unless a cluster says otherwise) before
    the time limit. SLURM sends them to this process and, on most clusters, not to the worker.

    Returns:
        An `Outcome` as JSON.
    """
    host = Host()
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, host.evacuate)
    try:
        return host.perform(order)
    finally:
        host.close()


class Host:
    """Runs jobs on this machine, one after another, in a process that is kept."""

    def __init__(self) -> None:
        self._engine = Local(PluginOptions())
        self._is_leaving = False

    def evacuate(self, number: int, frame: FrameType | None) -> None:
        """Stop the job in progress, as this machine is wanted for something else: a handler of signals."""
        self._is_leaving = True

    def perform(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Run a job; returns an `Outcome` as JSON."""
        post, machine = Post(Path(order["post"])), platform.node()
        if order["version"] != own_version():
            return Outcome(
                unfit=f"machine {machine} has debiasctl {own_version()}, and the sweep is run by {order['version']}. "
                "Install the same version on all machines"
            ).answer()
        if not post.is_seen():
            return Outcome(
                unfit=f"machine {machine} does not see the sweep's folder {post.folder.parent.parent}. Set the "
                "environment variable DEBIASCTL_HOME to a folder on storage that all machines share"
            ).answer()
        os.environ.update(order["environment"])
        performance = _Performance(post, order, machine, is_leaving=lambda: self._is_leaving)
        return performance.run(self._engine).answer()

    def close(self) -> None:
        """Let the process end."""
        self._engine.close()


class _Performance:
    """One job: its events are written for the sweep's process, and the last is kept."""

    def __init__(self, post: Post, order: Mapping[str, Any], machine: str, *, is_leaving: Callable[[], bool]) -> None:
        self._post, self._order, self._machine, self._is_leaving = post, order, machine, is_leaving
        self._number = int(order["number"])
        self._deadline = None if order["seconds"] is None else time.monotonic() + order["seconds"]
        self._end: JobEvent | None = None
        self._is_out_of_time = self._wants_stop = False
        self._reported = self._looked = float("-inf")

    def run(self, engine: Local) -> Outcome:
        logs = self._post.folder / f"{self._machine}-{os.getpid()}"
        logs.mkdir(exist_ok=True)
        job = Job(**self._order["job"])
        # the job itself chooses its device, among the GPUs that this process was given
        workplace = Workplace(logs, 1, "cpu", self._order["threads"])
        try:
            engine.run([job], workplace, on_event=self._take, stopping=self._stopping)
        except KeyboardInterrupt:
            return Outcome(JobEvent(job.name, "stopped", reason="stopped at once", worker=self._machine))
        if self._is_out_of_time and (self._end is None or self._end.kind == "stopped"):
            return Outcome(JobEvent(job.name, "stopped", reason=OUT_OF_TIME, worker=self._machine))
        return Outcome(self._end)

    def _take(self, event: JobEvent) -> None:
        event = replace(event, worker=self._machine)
        if event.kind not in ("started", "progress"):
            self._end = event
        elif event.kind == "started":
            self._post.write(self._number, event)
        elif time.monotonic() - self._reported >= _PACE:
            self._reported = time.monotonic()
            self._post.write(self._number, event)

    def _stopping(self) -> bool:
        if not self._wants_stop and time.monotonic() - self._looked >= _PACE:
            self._looked = time.monotonic()
            wish = self._post.wish(self._number)
            if wish == "kill":
                raise KeyboardInterrupt
            self._is_out_of_time = self._deadline is not None and time.monotonic() > self._deadline
            self._wants_stop = wish == "stop" or self._is_out_of_time
        # at once, so that a worker that the cluster's signal reached as well takes both for one
        self._wants_stop = self._wants_stop or self._is_leaving()
        return self._wants_stop
