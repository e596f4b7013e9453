"""What holds of engines."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from debiasctl.api import Job, JobEvent, Workplace
from debiasctl.reading.regular import read_text
from debiasctl.testing.laws import Broken, Laws, Subject, Unchecked

laws = Laws(may_lack=True)
_TARGET = "debiasctl.testing.jobs:work"
_VALUE = 'ä 1.5 "quoted"'
_ENDS = ("finished", "failed", "stopped")


class _Work:
    """Some jobs run by an engine, and what it reported."""

    def __init__(self, engine: Any, folder: Path, how: dict[str, str]) -> None:
        self.engine, self.folder = engine, folder
        (folder / "logs").mkdir(exist_ok=True)
        self.jobs = [
            Job(
                name,
                _TARGET,
                {"name": name, "folder": str(folder), "how": one, "value": _VALUE, "checker": os.getpid()},
            )
            for name, one in how.items()
        ]
        self.events: list[JobEvent] = []

    def run(self, stopping: Callable[["_Work"], bool] = lambda work: False, *, at_once: int = 1) -> "_Work":
        workplace = Workplace(self.folder / "logs", jobs=at_once, device="cpu", threads=1)
        self.engine.run(self.jobs, workplace, on_event=self.events.append, stopping=lambda: stopping(self))
        return self

    @property
    def started(self) -> list[str]:
        return [event.job for event in self.events if event.kind == "started"]

    @property
    def ends(self) -> dict[str, JobEvent]:
        return {event.job: event for event in self.events if event.kind in _ENDS}

    def times_run(self, name: str) -> list[str]:
        path = self.folder / f"{name}.txt"
        return read_text(path).splitlines() if path.exists() else []


def _work(subject: Subject, how: dict[str, str], check: Callable[[_Work], None]) -> None:
    """Let a new engine run some jobs in a folder of their own, and close it.

    Raises:
        Unchecked: if it sends jobs to other machines, which a check of all that is installed does not do.
    """
    engine = subject.make()
    if not engine.runs_here() and not subject.more.get("elsewhere", True):
        raise Unchecked("it sends jobs to other machines; name the engine to have it checked")
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(_Work(engine, Path(folder), how))
        finally:
            engine.close()


@laws.law("It runs every job once, in order, with its arguments, and reports how each ended")
def _runs(subject: Subject) -> None:
    names = ["first", "second", "third"]

    def check(work: _Work) -> None:
        work.run()
        if work.started != names:
            raise Broken(f"of the jobs {names} it began {work.started}")
        for name in names:
            lines = work.times_run(name)
            if len(lines) != 1:
                raise Broken(f"the job {name} ran {len(lines)} times")
            if lines[0].partition(" ")[2] != _VALUE:
                raise Broken(f"the job {name} was given {lines[0].partition(' ')[2]!r} for {_VALUE!r}")
            if work.ends[name].kind != "finished":
                raise Broken(f"the job {name} did its work, and was reported as {work.ends[name].kind}")

    _work(subject, dict.fromkeys(names, ""), check)


@laws.law("A job that fails is reported with its reason, and the others run")
def _failures(subject: Subject) -> None:
    def check(work: _Work) -> None:
        ends = work.run().ends
        for name, reason, final in (("refused", "refused on purpose", True), ("failed", "fails on purpose", False)):
            end = ends[name]
            if end.kind != "failed" or reason not in (end.reason or ""):
                raise Broken(f"a job that raised '{reason}' was reported as {end.kind}, for the reason {end.reason!r}")
            if end.final != final:
                raise Broken(f"a job that was {name} was reported with final={end.final}, not {final}")
        if ends["last"].kind != "finished":
            raise Broken(f"a job after them was reported as {ends['last'].kind}")

    _work(subject, {"refused": "refuse", "failed": "fail", "last": ""}, check)


@laws.law("A job whose process dies has failed, and the others run")
def _deaths(subject: Subject) -> None:
    def check(work: _Work) -> None:
        ends = work.run().ends
        here = [line for name in ("dead", "last") for line in work.times_run(name)]
        if any(line.startswith(f"{os.getpid()} ") for line in here):
            raise Unchecked("it runs jobs in the process that calls it, which none may end")
        if ends["dead"].kind != "failed" or not ends["dead"].reason:
            raise Broken(f"a job whose process ended was reported as {ends['dead'].kind} ({ends['dead'].reason!r})")
        if ends["last"].kind != "finished":
            raise Broken(f"the job after it was reported as {ends['last'].kind}")

    _work(subject, {"dead": "die", "last": ""}, check)


@laws.law("Once it is to stop, it begins no further job")
def _stops(subject: Subject) -> None:
    def check(work: _Work) -> None:
        work.run(lambda one: bool(one.started))
        if work.started != ["first"]:
            raise Broken(f"stopping() was true from the first job on, and it began {work.started}")
        if work.times_run("second"):
            raise Broken("the second job ran although it was not reported as started")

    _work(subject, {"first": "wait", "second": "", "third": ""}, check)


@laws.law("It runs jobs again after that, and can be closed twice")
def _again(subject: Subject) -> None:
    def check(work: _Work) -> None:
        work.run(lambda one: True)
        if work.started:
            raise Broken(f"stopping() was true from the beginning, and it began {work.started}")
        work.run()
        if work.started != ["one", "two"]:
            raise Broken(f"called again, it began {work.started} of ['one', 'two']")
        work.engine.close()

    _work(subject, {"one": "", "two": ""}, check)
