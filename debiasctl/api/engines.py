"""Engines: what runs the jobs of a sweep, without looking into them."""

import importlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from debiasctl.api.plugin import Plugin
from debiasctl.boundary import summary
from debiasctl.errors import DebiasctlError, Interrupted

Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Job:
    """One piece of work: `target`, "module:function", is called with `arguments` and a function that reports progress.

    Its arguments hold JSON values alone, so that a job can be sent to another process or machine as text or by pickle.
    """

    name: str
    target: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class JobEvent:
    """What became of a job: its `name`, and how it stands.

    `progress` is what the job reported, for `kind` progress. `reason` says why it failed or was stopped; a `final`
    failure would be the same if the job were run again. `worker` names what runs it, for people.
    """

    job: str
    kind: Literal["started", "progress", "finished", "failed", "stopped"]
    progress: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    final: bool = False
    worker: str | None = None


def perform(job: Job, report: Report) -> JobEvent:
    """Run a job in this process, as every engine's worker does, and return how it ended; nothing of it is raised.

    A signal that stops the job (KeyboardInterrupt) ends it as "stopped", after the job has saved its work.
    """
    try:
        module, _, function = job.target.partition(":")
        getattr(importlib.import_module(module), function)(job.arguments, report)
    except (KeyboardInterrupt, Interrupted) as stop:
        return JobEvent(job.name, "stopped", reason=str(stop) if isinstance(stop, Interrupted) else "stopped")
    except DebiasctlError as error:
        return JobEvent(job.name, "failed", reason=str(error), final=error.exit_code == 2)
    except Exception as error:  # noqa: BLE001 - a worker outlives whatever its job raises
        return JobEvent(job.name, "failed", reason=summary(error))
    return JobEvent(job.name, "finished")


@dataclass(frozen=True)
class Workplace:
    """Where and how an engine works: `folder`, which exists, is for its logs.

    `jobs` is the number of jobs that run at once, None for as many as the engine sees fit; `device` is auto, cpu, cuda
    or cuda:N, and `threads` the number of threads that each job computes with on a CPU.
    """

    folder: Path
    jobs: int | None
    device: str
    threads: int


class Engine(Plugin):
    """Runs jobs, several at once, on this machine or elsewhere."""

    @abstractmethod
    def run(
        self,
        jobs: Sequence[Job],
        workplace: Workplace,
        *,
        on_event: Callable[[JobEvent], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Run each job once, in this order as places become free, and return when none runs any more.

        `on_event` is called in the calling thread: once "started" and once with the end (finished, failed or stopped)
        for each job that was begun, and "progress" in between as often as the engine learns of it. A job whose process
        dies has failed, and the others run on; the caller runs it again. Once `stopping()` is true, no further job is
        started, and those in progress are asked to stop (SIGTERM) and waited for. If a signal raises KeyboardInterrupt
        within this call, what runs is ended at once.

        Raises:
            UsageError: if jobs cannot be run as the workplace says.
        """

    def runs_here(self) -> bool:
        """Whether jobs run on this machine, so that what it lacks (a GPU, memory) forbids them before they begin."""
        return True

    def close(self) -> None:
        """End what `run` keeps between calls, such as idle workers."""
