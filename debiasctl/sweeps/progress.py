"""How far a sweep is: derived from its runs, and from what its workers report while it runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from debiasctl.errors import RunError
from debiasctl.evaluation.quick_reading import quick_record
from debiasctl.files import content_key
from debiasctl.runs.metrics import latest_speed
from debiasctl.runs.store import Run
from debiasctl.sweeps.store import StoredMeasures, StoredSweep, Sweep, SweepEvent

_TELLING = 0.1  # of the images sampled, from which the time of all can be told
State = Literal["waiting", "training", "measuring", "done", "interrupted", "failed"]


@dataclass
class RunProgress:
    """How far a run of a sweep is; `images_per_second` is 0 while it is not known."""

    run: Run
    arm: str
    seed: int
    num_steps: int
    images_per_step: int
    state: State = "waiting"
    step: int = 0
    images_per_second: float = 0.0
    doing: str = ""
    reason: str | None = None
    failures: list[str] = field(default_factory=list)
    measuring_since: float | None = None  # monotonic time
    measuring_share: float = 0.0  # of the images that are to be sampled
    measuring_took: float | None = None  # seconds

    @property
    def seconds_left(self) -> float | None:
        """Seconds of training that are left at the speed seen; None where none was."""
        left = (self.num_steps - self.step) * self.images_per_step
        if self.state == "done" or left <= 0:
            return 0.0
        return left / self.images_per_second if self.images_per_second > 0 else None

    def report(self, progress: Mapping[str, Any]) -> None:
        """Take what a worker reported."""
        doing = str(progress.get("doing", ""))
        if doing == "training":
            self.state, self.doing, self.measuring_since = "training", "", None
            self.step = int(progress["step"])
            self.images_per_second = float(progress["images_per_second"])
            return
        self.state = "training" if doing == "waiting" else "measuring"
        total = progress.get("total")
        share = float(progress["done"]) / total if total else None
        self.doing = doing if share is None else f"{doing} {100 * share:.0f} %"
        if self.state == "measuring" and self.measuring_since is None:
            self.step, self.measuring_since, self.measuring_share = self.num_steps, time.monotonic(), 0.0
        if share is not None and doing.startswith("sampling"):
            self.measuring_share = max(self.measuring_share, share)

    def finish(self) -> None:
        """Take note that it is trained and measured."""
        if self.measuring_since is not None:
            self.measuring_took = time.monotonic() - self.measuring_since
        self.state, self.doing, self.step, self.reason = "done", "", self.num_steps, None


def measures_key(run: Run, measures: StoredMeasures) -> str:
    """What tells that a run was measured as asked: the run's identity and how it is measured."""
    return content_key({"run": run.identity(), "measures": measures.model_dump(mode="json")})


def progress_of(sweep: Sweep, stored: StoredSweep) -> list[RunProgress]:
    """How far every run is, in the order in which they are trained, by what is stored.

    Raises:
        RunError: if the sweep's own files cannot be read.
    """
    happened: dict[str, list[SweepEvent]] = {}
    for event in sweep.events():
        happened.setdefault(event.run, []).append(event)
    training = {arm.name: arm.run_spec().training for arm in stored.arms}
    found = []
    for arm, seed, run in sweep.runs(stored):
        budget = training[arm.name]
        one = RunProgress(run, arm.name, seed, budget.steps, budget.batch_size)
        _look(one, happened.get(run.name, []), stored.evaluate)
        found.append(one)
    return found


def _look(one: RunProgress, events: list[SweepEvent], measures: StoredMeasures) -> None:
    one.failures = [event.reason or "" for event in events if event.kind == "failed"]
    if not one.run.path.is_dir():
        if one.failures:
            one.state, one.reason = "failed", one.failures[-1]
        return
    try:
        status = one.run.status()
    except RunError as error:
        one.state, one.reason = "failed", str(error)
        return
    one.step = status.step
    logged = latest_speed(one.run.metrics_path)
    if logged is not None:
        one.step, one.images_per_second = max(one.step, logged[0]), logged[1]
    if status.state == "finished":
        keys = {event.measures for event in events if event.kind == "measured"}
        is_measured = measures_key(one.run, measures) in keys
        gone = _gone(one, measures) if is_measured else []
        one.state = "done" if is_measured else "failed" if _failed_last(events) else "interrupted"
        if gone:
            one.state = "interrupted"
            one.doing = f"its evaluation in {' and '.join(map(str, gone))} steps is gone"
        elif not is_measured:
            one.doing = "trained, not measured yet"
        one.reason = one.failures[-1] if one.state == "failed" else None
    elif status.state == "training":
        one.state = "training"
    elif status.state == "failed" or _failed_last(events):
        one.state, one.reason = "failed", status.message or (one.failures[-1] if one.failures else None)
    else:
        one.state = "interrupted"


def _gone(one: RunProgress, measures: StoredMeasures) -> list[int]:
    """Sampling steps of which no record can be read any more, though the run was measured."""
    found = set()
    for file in one.run.evaluations_dir.glob("*.json"):
        record = quick_record(file)
        if record is None or record.checkpoint != one.num_steps or record.measured.num != measures.num:
            continue
        if record.measured.guide is not None:
            continue
        sampler = (record.measured.sampler or "").partition(":")[0]
        if sampler == measures.sampler.partition(":")[0] and record.measured.seed == one.seed:
            found.add(record.measured.steps)
    return [count for count in measures.steps if count not in found]


def _failed_last(events: list[SweepEvent]) -> bool:
    return bool(events) and events[-1].kind == "failed"


def seconds_left(runs: list[RunProgress], *, at_once: int) -> tuple[float, bool] | None:
    """Seconds until all runs are done, at the speeds seen with so many at once; None while no speed is known.

    The second value says whether they include the measuring, whose time is known once a run has been measured in part.
    """
    speeds = [one.images_per_second for one in runs if one.images_per_second > 0]
    if not speeds:
        return None
    now, usual = time.monotonic(), sum(speeds) / len(speeds)
    took = [one.measuring_took for one in runs if one.measuring_took is not None] or [
        (now - one.measuring_since) / one.measuring_share
        for one in runs
        if one.measuring_since is not None and one.measuring_share > _TELLING
    ]
    measuring = sum(took) / len(took) if took else 0.0
    left = 0.0
    for one in runs:
        if one.state in ("done", "failed"):
            continue
        speed = one.images_per_second or usual
        left += max(0, one.num_steps - one.step) * one.images_per_step / speed
        left += max(0.0, measuring - (now - one.measuring_since if one.measuring_since is not None else 0.0))
    return left / max(1, at_once), bool(took)
