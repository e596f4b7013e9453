"""The engine of this machine: jobs that end in every way, workers that die, and a parent that dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from debiasctl import registry
from debiasctl.api import Engine, Job, JobEvent, Workplace
from debiasctl.builtin.engines import local
from debiasctl.errors import UsageError


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made = registry.create("engines", "local")
    yield made
    made.close()


def run(
    engine: Engine, folder: Path, *jobs: Job, at_once: int | None = 1, stopping: Callable[[], bool] = lambda: False
) -> list[JobEvent]:
    events: list[JobEvent] = []
    engine.run(jobs, Workplace(folder, at_once, "cpu", 1), on_event=events.append, stopping=stopping)
    return events


def ends(events: list[JobEvent]) -> dict[str, tuple[str, str | None]]:
    return {event.job: (event.kind, event.reason) for event in events if event.kind not in ("started", "progress")}


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_worker_is_kept_and_survives_whatever_its_jobs_raise(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    note = ("jobs:note", {"file": str(file)})
    events = run(
        engine, tmp_path, Job("a", *note), Job("b", "jobs:fail", {}), Job("c", "jobs:misuse", {}),
        Job("d", "jobs:swallow", {}), Job("e", *note), Job("f", "jobs:nothing", {}), Job("g", "no_such_module:x", {}),
    )  # fmt: skip
    run(engine, tmp_path, Job("h", *note))
    assert len(set(file.read_text().split())) == 1
    assert file.read_text().count("\n") == 3
    found = ends(events)
    assert found["a"] == found["d"] == found["e"] == ("finished", None)
    assert found["b"] == ("failed", "ValueError: no \\x1b such thing")
    assert found["c"] == ("failed", "that cannot be")
    assert [event.final for event in events if event.kind == "failed"] == [False, True, False, False]
    assert found["f"][0] == found["g"][0] == "failed"
    assert next(event.progress for event in events if event.kind == "progress") == {"at": 1}
    assert [event.job for event in events if event.kind == "started"] == list("abcdefg")


def test_jobs_leave_neither_cycles_behind_nor_modules_to_be_searched_for_them(engine: Engine, tmp_path: Path) -> None:
    events = run(engine, tmp_path, Job("a", "jobs:leave_cycle", {}), Job("b", "jobs:look_back", {}))
    found = next(event.progress for event in events if event.job == "b" and event.kind == "progress")
    assert found["cycle_lives"] is False
    assert found["searched"] < 2000, "of tens of thousands of objects"


@pytest.mark.parametrize("code, reason", [(-9, "killed by SIGKILL"), (3, "exit code 3: these are my last words")])
def test_a_dead_worker_fails_its_job_and_another_takes_its_place(
    engine: Engine, tmp_path: Path, code: int, reason: str
) -> None:
    file = tmp_path / "file"
    events = run(
        engine, tmp_path, Job("dies", "jobs:die", {"code": code}), Job("lives", "jobs:note", {"file": str(file)})
    )
    kind, why = ends(events)["dies"]
    assert kind == "failed"
    assert reason in str(why)
    assert ends(events)["lives"] == ("finished", None)


def test_an_idle_worker_that_died_is_replaced(engine: Engine, tmp_path: Path) -> None:
    note = ("jobs:note", {"file": str(tmp_path / "file")})
    run(engine, tmp_path, Job("a", *note))
    first = int((tmp_path / "file").read_text())
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: not is_alive(first))
    assert ends(run(engine, tmp_path, Job("b", *note)))["b"][0] in ("finished", "failed")
    assert ends(run(engine, tmp_path, Job("c", *note)))["c"] == ("finished", None)


@pytest.mark.parametrize("deaf", [False, True])
def test_jobs_are_stopped_gently_and_none_is_begun(engine: Engine, tmp_path: Path, deaf: bool) -> None:
    files = [tmp_path / "0", tmp_path / "1"]
    jobs = [Job(file.name, "jobs:wait", {"file": str(file), "deaf": deaf}) for file in files]
    jobs.append(Job("never", "jobs:note", {"file": str(tmp_path / "2")}))
    events = run(engine, tmp_path, *jobs, at_once=2, stopping=lambda: all(file.exists() for file in files))
    assert {kind for kind, _ in ends(events).values()} == {"stopped"}
    assert [file.read_text() for file in files] == ["stopped", "stopped"]
    assert [event.job for event in events if event.kind == "started"] == ["0", "1"]


def test_a_second_signal_ends_jobs_at_once(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    begun: list[int] = []

    def interrupted() -> bool:
        if file.exists() and file.read_text():
            begun.append(int(file.read_text()))
            signal.raise_signal(signal.SIGINT)
        return False

    with pytest.raises(KeyboardInterrupt):
        run(engine, tmp_path, Job("a", "jobs:wait", {"file": str(file)}), stopping=interrupted)
    assert not is_alive(begun[0])
    assert file.read_text() == str(begun[0])  # it had no time to write more


def test_workers_notice_that_their_parent_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "file"
    code = f"""
from pathlib import Path
from debiasctl import registry
from debiasctl.api import Job, Workplace
job = Job("a", "jobs:wait", {{"file": {str(file)!r}}})
registry.create("engines", "local").run([job], Workplace(Path({str(tmp_path)!r}), 1, "cpu", 1),
    on_event=print, stopping=lambda: False)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    ) as parent:
        wait_until(lambda: file.exists() and file.read_text())
        worker = int(file.read_text())
        parent.kill()
    wait_until(lambda: file.read_text() == "stopped")
    wait_until(lambda: not is_alive(worker))


def test_far_more_jobs_at_once_than_cores_are_refused(engine: Engine, tmp_path: Path) -> None:
    jobs = [Job(str(number), "jobs:fail", {}) for number in range(5000)]
    with pytest.raises(UsageError, match=r"`jobs=4000`: this machine has \d+ CPU cores"):
        run(engine, tmp_path, *jobs, at_once=4000)


def test_where_a_worker_died_another_takes_its_gpu(engine: Engine, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(local, "_gpus", lambda device: ["0", "1"])
    monkeypatch.setattr(subprocess, "Popen", Started)
    workplace = Workplace(tmp_path, None, "cuda", 1)
    places = local._places(workplace, 4)
    first, second = (engine._start(workplace, places) for _ in range(2))
    assert [first.gpu, second.gpu] == ["0", "1"]
    engine._workers.remove(first)
    third = engine._start(workplace, places)
    assert third.gpu == third.process.environment["CUDA_VISIBLE_DEVICES"] == "0"
    engine._workers.clear()


class Started:
    """A process that was started, without one."""

    def __init__(self, command, *, env, **rest) -> None:
        self.environment = env
