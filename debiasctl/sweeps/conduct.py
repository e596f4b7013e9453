"""Running a sweep: jobs in rounds, failures retried, and an answer after every round."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from debiasctl import registry
from debiasctl.api import Engine, Job, JobEvent, Workplace
from debiasctl.compute.signals import StopSignals, number_of
from debiasctl.errors import Interrupted
from debiasctl.sweeps.answer import Answer, Commands, answer_of, write_report
from debiasctl.sweeps.prepare import reseeded
from debiasctl.sweeps.progress import RunProgress, measures_key, progress_of
from debiasctl.sweeps.store import LOGS, StoredSweep, Sweep, failed, measured
from debiasctl.sweeps.work import job_of

_BETWEEN_REPORTS = 600.0  # seconds: a report of many runs takes several


@dataclass(frozen=True)
class Way:
    """How a sweep is run, which does not influence its results; `retries` are those of a failed run."""

    device: str = "auto"
    jobs: int | None = None
    data_dir: Path | None = None
    retries: int = 2


@dataclass
class Display:
    """Callbacks for what happens, each called in the main thread; `commands` names those that a report shows."""

    commands: Commands
    on_change: Callable[[list[RunProgress]], None] = lambda runs: None
    on_failure: Callable[[RunProgress, str, bool], None] = lambda run, reason, again: None
    on_answer: Callable[[Answer, bool], None] = lambda answer, is_last: None


@dataclass
class Outcome:
    """What became of a sweep: how every run stands, and the last answer, if there was one."""

    runs: list[RunProgress]
    answer: Answer | None = None
    failures: list[RunProgress] = field(default_factory=list)


def run_sweep(sweep: Sweep, way: Way, display: Display) -> Outcome:
    """Train and measure every run of a sweep that is not done, in rounds of seeds; the caller holds the sweep's lock.

    After each round the arms are compared. Where looks were declared, seeds are added until the verdict is clear.

    Raises:
        Interrupted: if a signal came; what was trained is kept.
        UsageError: if the engine cannot run jobs in this way.
    """
    stored = sweep.stored()
    engine: Engine = registry.create("engines", stored.engine)
    (sweep.path / LOGS).mkdir(exist_ok=True)
    with _closing(engine), StopSignals("the checkpoints of the runs in progress") as signals:
        session = _Session(sweep, stored, way, display, engine, signals)
        try:
            session.run_all()
            while session.adds_seeds():
                session.run_all()
        except KeyboardInterrupt as stop:  # a second signal
            raise Interrupted(
                f"stopped at once; the last checkpoints stay. Resume it: debiasctl sweep --resume {sweep.name}",
                signal_number=number_of(stop),
            ) from stop
    return Outcome(session.runs, session.answer, [one for one in session.runs if one.state == "failed"])


@contextmanager
def _closing(engine: Engine) -> Iterator[None]:
    try:
        yield
    finally:
        engine.close()


class _Session:
    """One process's work on a sweep."""

    def __init__(
        self, sweep: Sweep, stored: StoredSweep, way: Way, display: Display, engine: Engine, signals: StopSignals
    ) -> None:
        self.sweep, self.stored, self.way, self.display = sweep, stored, way, display
        self.engine, self.signals = engine, signals
        self.answer: Answer | None = None
        self.runs = progress_of(sweep, stored)
        self._by_name = {one.run.name: one for one in self.runs}
        self._answered: set[str] = set()
        self._reported = time.monotonic()
        self._final: set[str] = set()  # runs that would fail again
        self._broken: Exception | None = None

    def run_all(self) -> None:
        """Run what is not done, and what failed again, and compare the arms."""
        attempts: dict[str, int] = {}
        pending = [one for one in self.runs if one.state != "done"]
        while pending:
            for one in pending:
                one.state = "waiting"
                attempts[one.run.name] = attempts.get(one.run.name, 0) + 1
            self.display.on_change(self.runs)
            self.engine.run(
                [self._job(one) for one in pending],
                Workplace(self.sweep.logs, self.way.jobs, self.way.device, self.stored.threads),
                on_event=lambda event: self._take(event, attempts),
                stopping=lambda: bool(self.signals.received) or self._broken is not None,
            )
            if self._broken is not None:
                raise self._broken
            self._check_stopped()
            pending = [one for one in pending if self._runs_again(one, attempts)]
        self._compare()

    def adds_seeds(self) -> bool:
        """Whether the verdict is not clear and another look is left; then another seed is added, and stored."""
        looks = self.stored.looks
        if looks is None or not self._may_go_on():
            return False
        wanted = next(look for look in looks if look > len(self.stored.seeds))
        seeds = list(self.stored.seeds)
        while len(seeds) < wanted:
            seeds.append(max(seeds) + 1)
        self.stored = self.stored.model_copy(update={"seeds": seeds})
        self.sweep.write(self.stored)
        self.runs = progress_of(self.sweep, self.stored)
        self._by_name = {one.run.name: one for one in self.runs}
        return True

    def _may_go_on(self) -> bool:
        """Whether more runs may follow: those that are not done, or those of another seed."""
        looks = self.stored.looks
        if any(one.state in ("waiting", "training", "measuring") for one in self.runs):
            return True
        if looks is None or len(self.stored.seeds) >= looks[-1]:
            return False
        return self.answer is None or not self.answer.is_settled

    def _job(self, one: RunProgress) -> Job:
        return job_of(
            one.run,
            reseeded(self.stored.arm(one.arm), one.seed),
            self.stored.evaluate,
            threads=self.stored.threads,
            device=self.way.device,
            data_dir=self.way.data_dir,
        )

    def _take(self, event: JobEvent, attempts: dict[str, int]) -> None:
        """Take an engine's event; an error in this is raised after the engine has returned, as it is not its own."""
        one = self._by_name[event.job]
        try:
            self._apply(one, event, attempts)
        except Exception as error:  # noqa: BLE001 - raised by run_all
            self._broken = self._broken or error
        self.display.on_change(self.runs)

    def _apply(self, one: RunProgress, event: JobEvent, attempts: dict[str, int]) -> None:
        if event.kind == "started":
            one.state, one.doing = "training", "starting"
        elif event.kind == "progress":
            one.report(event.progress)
        elif event.kind == "stopped":
            one.state, one.doing = "interrupted", ""
        elif event.kind == "finished":
            self.sweep.note(measured(one.run.name, measures_key(one.run, self.stored.evaluate)))
            one.finish()
            self._compare_round(one.seed)
        else:
            reason = event.reason or "no reason was given"
            one.state, one.doing, one.reason = "failed", "", reason
            one.failures.append(reason)
            if event.final:
                self._final.add(one.run.name)
            self.sweep.note(failed(one.run.name, reason))
            self.display.on_failure(one, reason, self._runs_again(one, attempts))

    def _runs_again(self, one: RunProgress, attempts: dict[str, int]) -> bool:
        if one.run.name in self._final or attempts[one.run.name] > self.way.retries:
            return False
        return one.state in ("failed", "interrupted")

    def _check_stopped(self) -> None:
        if not self.signals.received:
            return
        number = self.signals.received[0]
        done = sum(one.state == "done" for one in self.runs)
        raise Interrupted(
            f"stopped by {number.name} with {done} of {len(self.runs)} runs done; what was trained is kept. Resume it: "
            f"debiasctl sweep --resume {self.sweep.name}",
            signal_number=int(number),
        )

    def _compare_round(self, seed: int) -> None:
        """Compare the arms once a round is complete, but for the last, which `run_all` compares in the end."""
        is_last = all(one.state == "done" for one in self.runs)
        if (
            self.stored.looks is None
            and not is_last
            and all(one.state == "done" for one in self.runs if one.seed == seed)
        ):
            self._compare()

    def _compare(self) -> None:
        done = [one for one in self.runs if one.state == "done"]
        names = {one.run.name for one in done}
        if not done or names == self._answered:
            return
        self._answered = names
        self.answer = answer_of(self.sweep, self.stored, done)
        is_last = not self._may_go_on()
        if is_last or time.monotonic() - self._reported > _BETWEEN_REPORTS:
            write_report(self.sweep, self.answer, done, self.display.commands)
            self._reported = time.monotonic()
        self.display.on_answer(self.answer, is_last)
