"""The engine of clusters that Ray runs on."""

import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field

from debiasctl.api import JobEvent, PluginOptions, UsageError, Workplace
from debiasctl.builtin.engines._support.host import Host
from debiasctl.builtin.engines._support.post import Outcome, Post, outcome_of
from debiasctl.builtin.engines._support.remote import Remote, Sent

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ray(Remote):
    """Machines of a Ray cluster, which have to share the folder DEBIASCTL_HOME (extra: debiasctl[ray]).

    Each job has a worker on one of the machines, which is kept for one job after another.
    """

    package: ClassVar[str] = "ray"
    name: ClassVar[str] = "ray"

    class Options(PluginOptions):
        """Where the cluster is, and what a job takes of it."""

        address: str | None = Field(
            None,
            description="HOST:PORT, ray://HOST:PORT, auto (a Ray that runs here) or local (one that is started for "
            "the sweep); default: RAY_ADDRESS, else auto, else local",
        )
        num_cpus: float | None = Field(None, gt=0, description="CPUs of a job (default: its threads)")
        num_gpus: float | None = Field(
            None, ge=0, description="GPUs of a job; 0.5 lets two share one (default: 1 if the cluster has any)"
        )

    options: Options

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._has_connected = False
        self._idle: list[Any] = []
        self._cpus, self._gpus = 1.0, 0.0

    def prepare(self, workplace: Workplace, post: Post, num_jobs: int) -> int:
        """Connect, or start a Ray, and count the jobs that the cluster has room for."""
        if workplace.device.startswith("cuda:"):
            raise UsageError(f"`device={workplace.device}`: Ray chooses the GPU of each job. Give cuda, or auto")
        self._connect()
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        has_gpus = any(node.get("GPU", 0) for node in nodes)
        self._cpus = self.options.num_cpus or float(workplace.threads)
        self._gpus = _gpus_of_a_job(self.options.num_gpus, workplace.device, has_gpus=has_gpus)
        room = sum(_room(node, self._cpus, self._gpus) for node in nodes)
        if room == 0:
            wanted = f"{self._cpus:g} CPUs" + (f" and {self._gpus:g} GPUs" if self._gpus else "")
            most = max((node.get("CPU", 0) for node in nodes), default=0)
            if workplace.jobs is None:
                raise UsageError(
                    f"no machine of the Ray cluster has {wanted} for a job; the largest has {most:g} CPUs. Give the "
                    "engine less by num_cpus and num_gpus, or, if the cluster grows when it is asked to, `jobs`"
                )
            logging.getLogger(__name__).warning("no machine of the Ray cluster has %s yet; jobs wait for one", wanted)
        return workplace.jobs or min(room, num_jobs)

    def gpus(self) -> float:
        """The GPUs of a job."""
        return self._gpus

    def send(self, order: dict[str, Any], name: str) -> Sent:
        """Give the order to a host that is idle, or to a new one."""
        import ray

        host = self._idle.pop() if self._idle else None
        if host is None:
            kind = ray.remote(num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0)(Host)
            host = kind.remote()
        return _RaySent(self, host, host.perform.remote(order), name)

    def keep(self, host: Any) -> None:
        """Keep a host for the next job."""
        self._idle.append(host)

    def close(self) -> None:
        """Let all workers end, and leave the cluster."""
        if not (self._has_connected or self._idle):
            return
        import ray

        with _own_signals():
            for host in self._idle:
                ray.kill(host)
            self._idle.clear()
            if self._has_connected:  # and not the program that calls this
                ray.shutdown()
        self._has_connected = False

    def _connect(self) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
        with _own_signals():
            import ray

            if ray.is_initialized():
                return
            try:
                _check_port(self.options.address or os.environ.get("RAY_ADDRESS"))
                ray.init(
                    address=self.options.address,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                where = self.options.address or os.environ.get("RAY_ADDRESS") or "local"
                raise UsageError(
                    f"Ray cannot be reached at {where}: {_first_line(error)}. Give the engine another address, or "
                    "start Ray there: ray start --head"
                ) from error
            self._has_connected = True


class _RaySent(Sent):
    def __init__(self, engine: Ray, host: Any, answer: Any, name: str) -> None:
        self._engine, self._host, self._answer, self._name = engine, host, answer, name

    def outcome(self) -> Outcome | None:
        import ray

        if not ray.wait([self._answer], timeout=0)[0]:
            return None
        try:
            outcome = outcome_of(ray.get(self._answer))
        except ray.exceptions.RayError as error:
            ray.kill(self._host)
            if "No module named" in str(error):
                return Outcome(unfit=f"debiasctl is not installed on a machine of the Ray cluster: {_last_line(error)}")
            return Outcome(JobEvent(self._name, "failed", reason=f"its Ray worker ended: {_first_line(error)}"))
        self._engine.keep(self._host)
        return outcome

    def withdraw(self) -> None:
        import ray

        ray.kill(self._host)


def _check_port(address: str | None) -> None:
    """Check that something listens where the cluster is said to be, which Ray itself tries for minutes.

    Raises:
        OSError: if nothing does.
    """
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this process's handlers of signals, which Ray would replace."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _gpus_of_a_job(asked: float | None, device: str, *, has_gpus: bool) -> float:
    """The GPUs that a job takes.

    Raises:
        UsageError: if the device contradicts them.
    """
    if device == "cpu":
        if asked:
            raise UsageError(f"num_gpus={asked:g} of the engine 'ray' contradicts `device=cpu`. Leave one of them out")
        return 0.0
    chosen = float(has_gpus) if asked is None else asked
    if device == "cuda" and not chosen:
        raise UsageError(
            "`device=cuda`, and jobs of the engine 'ray' have no GPU. Give it num_gpus=1, on a cluster that has GPUs"
        )
    return chosen


def _room(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """The jobs that a machine has room for."""
    room = int(resources.get("CPU", 0) / cpus)
    if not gpus:
        return room
    there = int(resources.get("GPU", 0))
    return min(room, there * int(1 / gpus) if gpus < 1 else int(there / gpus))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
