"""A process that runs jobs, one after another: `python -m` this, with jobs on stdin and their events on stdout.

Each line is a JSON object. It ends when stdin does, as it does when the engine's process dies, however that happened.
"""

import contextlib
import gc
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import IO, Any, Literal

from debiasctl.api import Job, JobEvent, perform
from debiasctl.api.files import parse_json
from debiasctl.api.machine import is_importing

_PATIENCE = 600.0  # seconds for the last checkpoint, once nobody listens any more
_PACE = 0.2  # seconds between two reports of progress


def main() -> None:
    """Run jobs until stdin ends."""
    events, jobs = _pipes()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine's process decides what Ctrl-C means
    for warning in (signal.SIGUSR1, signal.SIGUSR2):  # and what a cluster's means, which may reach all processes
        signal.signal(warning, signal.SIG_IGN)
    worker = _Worker(events)
    signal.signal(signal.SIGTERM, worker.stop)
    threading.Thread(target=worker.listen, args=(jobs,), daemon=True).start()
    worker.work()


class _Worker:
    def __init__(self, events: IO[str]) -> None:
        self._events = events
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._doing: Literal["idle", "job", "report"] = "idle"
        self._stopped = False
        self._reported = 0.0

    def listen(self, jobs: IO[str]) -> None:
        """Take jobs as they come; when none can come any more, stop the one in progress and end."""
        for line in jobs:
            self._jobs.put(Job(**parse_json(line)))
        self._jobs.put(None)
        if self._doing == "job":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_PATIENCE)
            os._exit(128 + signal.SIGTERM)

    def work(self) -> None:
        """Run one job after another."""
        while (job := self._jobs.get()) is not None:
            self._doing = "job"
            end = perform(job, partial(self._progress, job.name))
            self._doing = "report"
            if self._stopped and end.kind == "failed":  # a package turned the signal into an error of its own
                end = replace(end, kind="stopped")
            self._send(end)
            self._doing = "idle"
            gc.collect()  # what the job left in cycles may be large
            gc.freeze()  # later jobs need not search the modules and images that are kept, which takes a quarter second

    def stop(self, number: int, frame: FrameType | None) -> None:
        """Stop the job in progress; the job's own handler takes this one's place where it saves its work first."""
        self._stopped = True
        if self._doing == "idle" or is_importing(frame):
            os._exit(128 + number)
        if self._doing == "job":
            raise KeyboardInterrupt(number)

    def _progress(self, name: str, progress: Mapping[str, Any]) -> None:
        if time.monotonic() - self._reported >= _PACE:
            self._reported = time.monotonic()
            self._send(JobEvent(name, "progress", progress=progress))

    def _send(self, event: JobEvent) -> None:
        with contextlib.suppress(OSError):  # where nobody listens any more, `listen` stops the job
            print(json.dumps(vars(event)), file=self._events, flush=True)


def _pipes() -> tuple[IO[str], IO[str]]:
    """Streams of events and jobs in place of stdout and stdin, which then are stderr's and nobody's."""
    events, jobs = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr
    return open(events, "w", encoding="utf-8"), open(jobs, encoding="utf-8")


if __name__ == "__main__":
    main()
