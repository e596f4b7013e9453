"""An engine."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NoReturn

from debiasctl.api import Engine, Job, JobEvent, PluginOptions, Workplace, perform
from pydantic import Field

TICK = 0.2  # seconds between two looks at `stopping`
STOPPED = (-signal.SIGTERM, 128 + signal.SIGTERM)  # exit codes


class MyEngine(Engine):
    """A fresh process for each job on this machine, at a lower priority than other programs have.

    Nothing that a job leaves in its process, such as cached memory, is there for the next. Each begins with seconds of
    importing torch.
    """

    class Options(PluginOptions):
        """The options of the processes."""

        nice: int = Field(5, ge=0, le=19, description="how far the priority of jobs is below others'")

    options: Options

    def run(
        self,
        jobs: Sequence[Job],
        workplace: Workplace,
        *,
        on_event: Callable[[JobEvent], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Run the jobs, one at a time unless the workplace says how many."""
        waiting, stopped = deque(jobs), False
        running: dict[Connection, tuple[Job, SpawnProcess]] = {}
        try:
            while running or (waiting and not stopped):
                if not stopped and stopping():
                    stopped = True
                    for _, process in running.values():
                        process.terminate()
                while waiting and not stopped and len(running) < (workplace.jobs or 1):
                    job = waiting.popleft()
                    pipe, process = started(job, workplace, nice=self.options.nice)
                    running[pipe] = job, process
                    on_event(JobEvent(job.name, "started", worker=f"process {process.pid}"))
                ready = wait(list(running), timeout=TICK)
                for pipe in [pipe for pipe in running if pipe in ready]:
                    event = received(pipe, *running[pipe])
                    if event.kind != "progress":
                        pipe.close()
                        running.pop(pipe)[1].join()
                    on_event(event)
        finally:
            for pipe, (_, process) in running.items():  # a signal or an error ended the loop
                process.kill()
                process.join()
                pipe.close()


def started(job: Job, workplace: Workplace, *, nice: int) -> tuple[Connection, SpawnProcess]:
    """Start a process for a job; its events come from the pipe."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(job, theirs, workplace, nice))
    process.start()
    theirs.close()  # so that the pipe ends when the process does
    return ours, process


def received(pipe: Connection, job: Job, process: SpawnProcess) -> JobEvent:
    """Receive a job's next event, or how its process died."""
    try:
        event = pipe.recv()
    except (EOFError, OSError):
        process.join()
        if process.exitcode in STOPPED:
            return JobEvent(job.name, "stopped", reason="stopped by SIGTERM")
        return JobEvent(job.name, "failed", reason=f"its process ended with exit code {process.exitcode}")
    assert isinstance(event, JobEvent)
    return event


def work(job: Job, pipe: Connection, workplace: Workplace, nice: int) -> None:
    """Run one job in this process, which is its own; what it prints goes to a file in the workplace's folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the engine's, which then stops its jobs
    signal.signal(signal.SIGTERM, stop)
    os.nice(nice)
    # both are read when torch is imported, which it is not yet
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(workplace.threads))
    number = workplace.device.partition(":")[2]  # of the GPU, which the job calls "cuda", the only one that it sees
    if number:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(number)] if visible else number
    log = os.open(workplace.folder / f"process-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    pipe.send(perform(job, lambda progress: pipe.send(JobEvent(job.name, "progress", progress=progress))))


def stop(number: int, frame: object) -> NoReturn:
    """Interrupt the job, which saves its work."""
    raise KeyboardInterrupt
