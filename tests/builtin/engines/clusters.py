"""A cluster in this process: an engine that sends jobs to hosts in threads, and stand-ins for ray and sbatch."""

import importlib.machinery
import sys
import threading
import types
from pathlib import Path

import pytest

from debiasctl.api import PluginOptions
from debiasctl.builtin.engines._support.host import Host
from debiasctl.builtin.engines._support.post import outcome_of
from debiasctl.builtin.engines._support.remote import Refused, Remote, Sent


class Threads(Remote):
    """Each host is a thread; `change` alters an order on its way, and `stuck` names jobs that no machine begins.

    Those that are in `frees` as well are begun once they were withdrawn. `refusals` says how often the job after so
    many is refused, and `is_blind` that the cluster cannot say how jobs stand.
    """

    package = "threading"
    name = "threads"

    def __init__(self) -> None:
        super().__init__(PluginOptions())
        self.change, self.stuck, self.withdrawn, self.limit, self.most = {}, (), [], None, 1
        self.orders, self.frees, self.refusals, self.is_blind = [], (), {}, False

    def prepare(self, workplace, post, num_jobs):
        return workplace.jobs or num_jobs

    def seconds(self):
        return self.limit

    def times(self):
        return self.most

    def send(self, order, name):
        count = len(self.orders) + 1
        if self.refusals.get(count):
            self.refusals[count] -= 1
            raise Refused("the queue is full")
        self.orders.append(order)
        return _Thread(self, order | self.change, name)


class _Thread(Sent):
    def __init__(self, engine, order, name) -> None:
        self._engine, self._name, self._host, self._answer = engine, name, Host(), None
        self._thread = threading.Thread(target=self._run, args=(order,), daemon=True)
        if name not in engine.stuck or (name in engine.frees and name in engine.withdrawn):
            self._thread.start()

    def _run(self, order) -> None:
        try:
            self._answer = self._host.perform(order)
        finally:
            self._host.close()

    def outcome(self):
        return None if self._answer is None else outcome_of(self._answer)

    def is_unknown(self) -> bool:
        return self._engine.is_blind

    def withdraw(self) -> None:
        self._engine.withdrawn.append(self._name)


def fake_ray(patch: pytest.MonkeyPatch, nodes: list[dict[str, float]]) -> types.ModuleType:
    """A module in place of ray, whose actors run what they are asked to at once, in this process."""
    ray = types.ModuleType("ray")
    ray.__spec__ = importlib.machinery.ModuleSpec("ray", None)
    ray.exceptions = types.SimpleNamespace(RayError=type("RayError", (Exception,), {}))
    ray.made, ray.killed, ray.begun, ray.break_on = [], [], [], ()

    class Method:
        def __init__(self, host) -> None:
            self.host = host

        def remote(self, order):
            if order["job"]["name"] in ray.break_on:
                return ray.exceptions.RayError(ray.why)
            return self.host.perform(order)

    def remote(**resources):
        def actor():
            ray.made.append(resources)
            return types.SimpleNamespace(perform=Method(Host()))

        return lambda kind: types.SimpleNamespace(remote=actor)

    def get(answer):
        if isinstance(answer, Exception):
            raise answer
        return answer

    def init(**settings) -> None:
        ray.begun.append(settings)

    ray.is_initialized = lambda: bool(ray.begun)
    ray.init, ray.remote, ray.get = init, remote, get
    ray.wait = lambda answers, timeout: (answers, [])
    ray.nodes = lambda: [{"Alive": True, "Resources": node} for node in nodes]
    ray.kill, ray.shutdown = ray.killed.append, ray.begun.clear
    patch.setitem(sys.modules, "ray", ray)
    return ray


def fake_slurm(folder: Path, patch: pytest.MonkeyPatch, sbatch: str) -> None:
    """Programs srun and sbatch, of which the second does what its text says."""
    folder.mkdir()
    for name, text in (("srun", ""), ("sbatch", sbatch)):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    patch.setenv("PATH", str(folder), prepend=":")
