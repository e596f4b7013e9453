"""The base of engines whose jobs run on other machines, which share the sweep's folder."""

import importlib.util
import logging
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from debiasctl.api import Engine, Job, JobEvent, UsageError, Workplace
from debiasctl.builtin.engines._support.host import carried, own_version
from debiasctl.builtin.engines._support.post import Outcome, Post

_TICK = 0.3  # seconds between two looks at the jobs
_EACH = 0.01  # seconds more for each job that is out, so that thousands of looks do not burden shared storage
_AT_A_TIME = 20  # jobs sent between two looks, as each may take a cluster a second
_REFUSED = 60.0  # seconds until a cluster that takes no job is asked again
_REFUSED_FOR = 1800.0  # seconds of nothing but refusals, and no job out, after which the sweep ends
_LAST_WAIT = 15.0  # seconds for hosts to end what they run, before they are ended themselves


class Refused(Exception):
    """The cluster takes no job for now, although it took some before; the message says why."""


class Sent:
    """A job that was sent off to run on another machine, when there is one."""

    @abstractmethod
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not."""

    def is_unknown(self) -> bool:
        """Whether the cluster cannot say how the job stands, so that its host's silence has to tell."""
        return False

    @abstractmethod
    def withdraw(self) -> None:
        """End it at once, and whatever it waits for."""


@dataclass(eq=False)
class _Errand:
    """A job of a call of `run`: its number in the folder of events, what it was sent as, and what is known of it."""

    job: Job
    number: int = 0
    sent: Sent | None = None
    times: int = 0
    offset: int = 0
    has_begun: bool = False
    end: JobEvent | None = None  # if it is to be sent again: how it ended before


class Remote(Engine):
    """Runs each job on a machine of a cluster, by a `Host`; what differs between clusters is how jobs are sent."""

    package: ClassVar[str]  # which is imported, and the extra that installs it
    name: ClassVar[str]

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        if importlib.util.find_spec(self.package) is None:
            raise UsageError(
                f"the engine `{self.name}` needs the package {self.package}, which is not installed. Install it: "
                f"pip install 'debiasctl[{self.name}]'"
            )
        self._post: Post | None = None
        self._number = 0

    @abstractmethod
    def prepare(self, workplace: Workplace, post: Post, num_jobs: int) -> int:
        """Reach the cluster; returns how many jobs may be sent at once.

        Raises:
            UsageError: if the cluster is not there, or cannot run such jobs.
        """

    @abstractmethod
    def send(self, order: dict[str, Any], name: str) -> Sent:
        """Send an order off to a host.

        Raises:
            UsageError: if the cluster takes no such jobs; Refused: if it took some before, and may again.
        """

    def runs_here(self) -> bool:
        """Whether jobs run on this machine: no, so it need not have what they need."""
        return False

    def gpus(self) -> float | None:
        """The GPUs of a job; None if the cluster decides."""
        return None

    def seconds(self) -> float | None:
        """The time after which a host stops its job by itself; None if it has no limit."""
        return None

    def times(self) -> int:
        """How often a job is sent that its machine stopped."""
        return 1

    def run(
        self,
        jobs: Sequence[Job],
        workplace: Workplace,
        *,
        on_event: Callable[[JobEvent], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Run the jobs; those that have not begun when the sweep stops are withdrawn."""
        if self._post is None:
            self._post = Post.open(workplace.folder, self.name)
        places = self.prepare(workplace, self._post, len(jobs))
        _Round(self, self._post, workplace, on_event).run(jobs, places, stopping)

    def dispatch(self, errand: _Errand, post: Post, workplace: Workplace) -> None:
        """Send a job off."""
        self._number += 1
        environment = carried()
        if self.gpus() == 0:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        job = errand.job
        order = {
            "post": str(post.folder),
            "number": self._number,
            "version": own_version(),
            "environment": environment,
            "threads": workplace.threads,
            "seconds": self.seconds(),
            "job": {"name": job.name, "target": job.target, "arguments": dict(job.arguments)},
        }
        errand.sent = self.send(order, job.name)
        errand.number, errand.offset, errand.times = self._number, 0, errand.times + 1


class _Round:
    """One call of `run`."""

    def __init__(self, engine: Remote, post: Post, workplace: Workplace, on_event: Callable[[JobEvent], None]) -> None:
        self._engine, self._post, self._workplace, self._on_event = engine, post, workplace, on_event
        self._waiting: deque[_Errand] = deque()
        self._out: list[_Errand] = []
        self._unfit: str | None = None
        self._stopped = False
        self._refused_since: float | None = None
        self._asked = float("-inf")

    def run(self, jobs: Sequence[Job], places: int, stopping: Callable[[], bool]) -> None:
        self._waiting.extend(_Errand(job) for job in jobs)
        self._post.ask("runs")
        try:
            while self._out or self._waiting:
                if not self._stopped and (stopping() or self._unfit is not None):
                    self._stop()
                self._send(places)
                for errand in list(self._out):
                    self._beat()
                    self._look_at(errand)
                time.sleep(_TICK + _EACH * len(self._out))
        except BaseException:
            self._end_at_once()
            raise
        if self._unfit is not None:
            raise UsageError(self._unfit)

    def _beat(self) -> None:
        self._post.beat("stop" if self._stopped else "runs")

    def _send(self, places: int) -> None:
        """Send jobs that wait, while the cluster takes them."""
        if self._refused_since is not None and time.monotonic() - self._asked < _REFUSED:
            return
        for _ in range(_AT_A_TIME):
            self._beat()
            if not self._waiting or len(self._out) >= places:
                return
            self._asked = time.monotonic()
            try:
                self._engine.dispatch(self._waiting[0], self._post, self._workplace)
            except Refused as refused:
                self._bear(refused)
                return
            self._refused_since = None
            self._out.append(self._waiting.popleft())

    def _bear(self, refused: Refused) -> None:
        """Wait until the cluster takes jobs again, unless it does not for long, and nothing of the sweep runs."""
        if self._refused_since is None:
            self._refused_since = self._asked
            logging.getLogger(__name__).warning("%s. It is asked again every %.0f seconds", refused, _REFUSED)
        elif not self._out and self._asked - self._refused_since > _REFUSED_FOR:
            raise UsageError(str(refused)) from refused

    def _stop(self) -> None:
        """Ask hosts to stop, and withdraw what has not begun."""
        self._stopped = True
        self._post.ask("stop")
        for errand in self._waiting:
            if errand.end is not None:
                self._on_event(errand.end)
        self._waiting.clear()
        for errand in list(self._out):
            self._hear(errand)
            if not errand.has_begun:
                self._sent(errand).withdraw()
                self._out.remove(errand)

    def _look_at(self, errand: _Errand) -> None:
        sent = self._sent(errand)
        outcome = sent.outcome()
        self._hear(errand)
        if outcome is None and sent.is_unknown() and self._post.is_silent(errand.number):
            sent.withdraw()
            outcome = Outcome(JobEvent(errand.job.name, "stopped", reason="nothing was heard of its machine any more"))
        if outcome is None:
            return
        self._out.remove(errand)
        if outcome.unfit is not None:
            self._unfit = self._unfit or outcome.unfit
            return
        end = outcome.event or JobEvent(errand.job.name, "stopped", reason="its machine stopped it before it began")
        if end.kind == "stopped" and not self._stopped and errand.times < self._engine.times():
            errand.end = end if errand.has_begun else None
            self._waiting.appendleft(errand)
            return
        if not errand.has_begun and end.kind == "stopped" and self._stopped:
            return
        self._begin(errand, end.worker)
        self._on_event(end)

    def _sent(self, errand: _Errand) -> Sent:
        assert errand.sent is not None, "only what was sent is out"
        return errand.sent

    def _hear(self, errand: _Errand) -> None:
        """Pass on what the job's host has written since."""
        letters = self._post.read(errand.number, errand.offset)
        errand.offset = letters.offset
        for event in letters.events:
            if event.kind == "started":
                self._begin(errand, event.worker)
            else:
                self._on_event(event)

    def _begin(self, errand: _Errand, worker: str | None) -> None:
        """Report that a job has started, once, however often its machine starts it again."""
        if not errand.has_begun:
            errand.has_begun = True
            self._on_event(JobEvent(errand.job.name, "started", worker=worker))

    def _end_at_once(self) -> None:
        self._post.ask("kill")
        deadline = time.monotonic() + _LAST_WAIT
        left = self._out
        while left and time.monotonic() < deadline:
            left = [errand for errand in left if errand.has_begun and self._sent(errand).outcome() is None]
            time.sleep(_TICK)
        for errand in self._out:
            self._sent(errand).withdraw()
