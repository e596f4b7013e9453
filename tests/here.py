"""Jobs of a sweep in this process, one after another: as an engine of a plugin package, or in place of `local`'s."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import write_distribution

from debiasctl.api import Engine, JobEvent, perform
from debiasctl.builtin.engines.local import Local
from debiasctl.data import load


class Here(Engine):
    """Runs jobs in this process."""

    order: list[str] = []  # noqa: RUF012 - of all jobs, over all engines

    def run(self, jobs, workplace, *, on_event, stopping):
        for job in jobs:
            if stopping():
                return
            Here.order.append(job.name)
            on_event(JobEvent(job.name, "started"))
            on_event(
                perform(job, lambda progress, name=job.name: on_event(JobEvent(name, "progress", progress=progress)))
            )


@contextlib.contextmanager
def installed(site: Path, patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Install the engine; the list holds the names of the jobs that it has begun."""
    points = {"debiasctl.engines": {"here": "here:Here"}}
    write_distribution(site, name="here-pack", version="1", entry_points=points, modules={})
    patch.syspath_prepend(site)
    with _restored(patch):
        yield Here.order


@contextlib.contextmanager
def without_workers(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `local` start no processes, which would import torch again for every sweep."""
    patch.setattr(Local, "run", Here.run)
    with _restored(patch):
        yield


@contextlib.contextmanager
def _restored(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo afterwards what jobs change in their process."""
    patch.setattr(Here, "order", [])
    patch.setitem(load._KEEPING, "on", False)
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        load._KEPT.clear()
