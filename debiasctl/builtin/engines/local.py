"""The engine of this machine."""

import json
import os
import selectors
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from debiasctl.api import Engine, Job, JobEvent, UsageError, Workplace, num_cores
from debiasctl.api.files import open_regular, parse_json

_PROGRAM = "debiasctl.builtin.engines._support.worker"
_TICK = 0.2  # seconds between two looks at the workers, if they report nothing
_LAST_WORDS = 300  # characters of a dead worker's log that its job's failure quotes


@dataclass(eq=False)
class _Worker:
    """A process that is kept for one job after another."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    gpu: str | None = None
    job: Job | None = None
    received: bytes = b""
    ended: bool = False  # it has closed its output

    @property
    def output(self) -> int:
        """The descriptor of what it reports."""
        return cast(Any, self.process.stdout).fileno()  # type: ignore[no-any-return]

    def give(self, job: Job) -> None:
        """Let the worker begin a job; if it is dead, that is noticed when it is next looked at."""
        self.job = job
        with suppress(OSError):
            cast(Any, self.process.stdin).write(json.dumps(vars(job)).encode() + b"\n")
            cast(Any, self.process.stdin).flush()

    def events(self) -> Iterator[JobEvent]:
        """What it has reported since, in whole lines; ends where there is no more for now."""
        data = os.read(self.output, 1 << 16)
        self.ended = not data
        *lines, self.received = (self.received + data).split(b"\n")
        for line in lines:
            yield JobEvent(**parse_json(line) | {"worker": self.name})

    def dismiss(self) -> None:
        """Let it end, now that it has nothing to do."""
        with suppress(OSError):
            cast(Any, self.process.stdin).close()


class Local(Engine):
    """Processes on this machine, as many at once as there are GPUs, or as there are CPU cores for their threads.

    Each process is kept for one job after another, so that importing torch is paid for once.
    """

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._workers: list[_Worker] = []
        self._made = 0

    def run(
        self,
        jobs: Sequence[Job],
        workplace: Workplace,
        *,
        on_event: Callable[[JobEvent], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Run the jobs; workers that fall idle are kept for the next call, until `close`."""
        waiting, stopped = deque(jobs), False
        places = _places(workplace, len(waiting))
        try:
            while self._busy() or (waiting and not stopped):
                if not stopped and stopping():
                    stopped = True
                    for worker in self._busy():
                        worker.process.terminate()
                if not stopped:
                    self._employ(waiting, workplace, places, on_event)
                self._listen(on_event)
        except BaseException:
            for worker in self._workers:
                worker.process.kill()
            self.close()
            raise
        if stopped:
            self.close()

    def close(self) -> None:
        """Let all workers end, and wait for them."""
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.process.wait()
            cast(Any, worker.process.stdout).close()
        self._workers.clear()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _employ(
        self,
        waiting: "deque[Job]",
        workplace: Workplace,
        places: list[str | None],
        on_event: Callable[[JobEvent], None],
    ) -> None:
        """Give waiting jobs to idle workers, and to new ones while there is a place for them."""
        while waiting and len(self._busy()) < len(places):
            idle = next((worker for worker in self._workers if worker.job is None), None)
            worker = idle or self._start(workplace, places)
            job = waiting.popleft()
            worker.give(job)
            on_event(JobEvent(job.name, "started", worker=worker.name))

    def _start(self, workplace: Workplace, places: list[str | None]) -> _Worker:
        self._made += 1
        name = f"worker-{self._made}"
        log = workplace.folder / f"{name}.log"
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(workplace.threads))
        environment = {**os.environ, **threads}
        # one that has no worker, or fewer than others: where a worker died, its own
        taken = Counter(worker.gpu for worker in self._workers)
        gpu = min(places, key=lambda place: taken[place] / places.count(place))
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        with open(log, "wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches this process alone, which stops the workers
            )
        worker = _Worker(name, process, log, gpu)
        self._workers.append(worker)
        return worker

    def _listen(self, on_event: Callable[[JobEvent], None]) -> None:
        """Pass on what workers report within the next moment, and report the jobs of those that have died."""
        with selectors.DefaultSelector() as selector:
            for worker in self._busy():
                selector.register(worker.output, selectors.EVENT_READ, worker)
            ready = [cast(_Worker, key.data) for key, _ in selector.select(_TICK)]
        for worker in ready:
            for event in worker.events():
                if event.kind != "progress":
                    worker.job = None
                on_event(event)
        for worker in list(self._workers):
            is_dead = worker.process.poll() is not None and worker not in ready  # nothing is left to be read
            if worker.ended or is_dead:
                self._bury(worker, on_event)

    def _bury(self, worker: _Worker, on_event: Callable[[JobEvent], None]) -> None:
        self._workers.remove(worker)
        worker.dismiss()
        cast(Any, worker.process.stdout).close()
        code = worker.process.wait()
        if worker.job is None:
            return
        if code in (128 + signal.SIGTERM, -signal.SIGTERM):
            on_event(JobEvent(worker.job.name, "stopped", reason="stopped by SIGTERM", worker=worker.name))
            return
        on_event(JobEvent(worker.job.name, "failed", reason=_death(code, worker.log), worker=worker.name))


def _places(workplace: Workplace, num_jobs: int) -> list[str | None]:
    """One entry for each job that may run at once: its GPU, as CUDA_VISIBLE_DEVICES names it, or None.

    Raises:
        UsageError: if more are asked for than there are cores and GPUs.
    """
    gpus = _gpus(workplace.device)
    if gpus:
        chosen = workplace.jobs or len(gpus)
        return [gpus[number % len(gpus)] for number in range(min(chosen, num_jobs))]
    cores = num_cores()
    if workplace.jobs is not None and workplace.jobs > max(cores, 8):
        raise UsageError(
            f"`jobs={workplace.jobs}`: this machine has {cores} CPU cores, and more jobs at once than that are only "
            f"slower. Give at most {max(cores, 8)}"
        )
    chosen = workplace.jobs or max(1, cores // workplace.threads)
    return [None] * max(1, min(chosen, num_jobs))


def _gpus(device: str) -> list[str]:
    """The GPUs to compute on, as CUDA_VISIBLE_DEVICES names them; none for a CPU."""
    if device == "cpu":
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    named = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    names = named or [str(number) for number in range(torch.cuda.device_count())]
    _, colon, number = device.partition(":")
    return [names[int(number)]] if colon else names


def _death(code: int, log: Path) -> str:
    """Why a worker that ended by itself may have done so."""
    if code < 0:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        return f"its process was killed by {name}, perhaps because memory ran out"
    with suppress(OSError), open_regular(log) as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - 4 * _LAST_WORDS))
        words = " ".join(stream.read().decode(errors="replace").split())[-_LAST_WORDS:]
        if words:
            return f"its process ended with exit code {code}: {words}"
    return f"its process ended with exit code {code}"
