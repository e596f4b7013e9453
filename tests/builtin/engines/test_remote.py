"""What engines of clusters have in common: hosts, the folder by which they are reached, stopping, time limits."""

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clusters import Threads

from debiasctl.api import Job, JobEvent, Workplace
from debiasctl.builtin.engines._support import host, post, remote
from debiasctl.builtin.engines._support.post import Post
from debiasctl.errors import UsageError


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Threads:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    for module, name in ((remote, "_TICK"), (host, "_PACE"), (post, "_BEAT")):
        monkeypatch.setattr(module, name, 0.02)
    return Threads()


def run(
    engine: Threads, folder: Path, *jobs: Job, at_once: int | None = 2, stopping: Callable[[], bool] = lambda: False
) -> list[JobEvent]:
    events: list[JobEvent] = []
    engine.run(jobs, Workplace(folder, at_once, "cpu", 1), on_event=events.append, stopping=stopping)
    return events


def ends(events: list[JobEvent]) -> dict[str, tuple[str, str | None]]:
    return {event.job: (event.kind, event.reason) for event in events if event.kind not in ("started", "progress")}


def test_jobs_end_as_they_do_on_this_machine(engine: Threads, tmp_path: Path) -> None:
    note = ("jobs:note", {"file": str(tmp_path / "file")})
    events = run(
        engine, tmp_path, Job("a", *note), Job("b", "jobs:fail", {}), Job("c", "jobs:misuse", {}),
        Job("d", "jobs:die", {"code": -9}), Job("e", *note),
    )  # fmt: skip
    found = ends(events)
    assert found["a"] == found["e"] == ("finished", None)
    assert found["b"] == ("failed", "ValueError: no \\x1b such thing")
    assert found["c"] == ("failed", "that cannot be")
    assert "killed by SIGKILL" in str(found["d"][1])
    assert [event.job for event in events if event.final] == ["c"]
    assert sorted(event.job for event in events if event.kind == "started") == list("abcde")
    assert next(event.progress for event in events if event.kind == "progress") == {"at": 1}
    assert all(event.worker == os.uname().nodename for event in events)


def test_jobs_are_stopped_gently_and_those_that_wait_for_a_machine_are_withdrawn(
    engine: Threads, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    engine.stuck = ("waits",)
    jobs = (Job("runs", "jobs:wait", {"file": str(file)}), Job("waits", "jobs:fail", {}), Job("never", "jobs:fail", {}))
    events = run(engine, tmp_path, *jobs, stopping=lambda: file.exists() and bool(file.read_text()))
    assert [(event.job, event.kind) for event in events] == [("runs", "started"), ("runs", "stopped")]
    assert file.read_text() == "stopped"
    assert engine.withdrawn == ["waits"]


def test_a_second_signal_ends_jobs_at_once(engine: Threads, tmp_path: Path) -> None:
    file = tmp_path / "file"

    def interrupted() -> bool:
        if file.exists() and file.read_text():
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        run(engine, tmp_path, Job("a", "jobs:wait", {"file": str(file)}), stopping=interrupted)
    assert file.read_text() not in ("", "stopped")  # it had no time to write more
    assert engine.withdrawn == ["a"]


def test_a_machine_that_does_not_see_the_folder_is_reported_once(
    engine: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "_LAG", 0.0)
    engine.change = {"post": str(tmp_path / "sweep" / "logs" / "elsewhere")}
    events: list[JobEvent] = []
    jobs = [Job(name, "jobs:fail", {}) for name in "abc"]
    with pytest.raises(UsageError, match=r"machine .* does not see the sweep's folder .*/sweep\. Set .*DEBIASCTL_HOME"):
        engine.run(jobs, Workplace(tmp_path, 1, "cpu", 1), on_event=events.append, stopping=lambda: False)
    assert events == []
    assert len(engine.orders) == 1


def test_machines_have_the_version_of_the_sweep(engine: Threads, tmp_path: Path) -> None:
    engine.change = {"version": "0.0.1"}
    with pytest.raises(UsageError, match=r"has debiasctl .*, and the sweep is run by 0\.0\.1\. Install the same"):
        run(engine, tmp_path, Job("a", "jobs:fail", {}))


@pytest.mark.parametrize("most", [1, 3])
def test_a_job_whose_time_ran_out_is_stopped_and_sent_again(engine: Threads, tmp_path: Path, most: int) -> None:
    engine.limit, engine.most = 0.0, most
    events = run(engine, tmp_path, Job("a", "jobs:wait", {"file": str(tmp_path / "file")}))
    assert len(engine.orders) == most
    assert [event.kind for event in events] == ["started", "stopped"]
    assert events[-1].reason == host.OUT_OF_TIME


def test_hosts_stop_when_the_sweeps_process_is_dead_or_another_runs_the_sweep(tmp_path: Path) -> None:
    first = Post.open(tmp_path, "ray")
    assert first.wish(1) == "runs"
    beaten = time.time() - 1000
    os.utime(first.folder / "alive", (beaten, beaten))
    assert first.wish(1) == "stop"
    first.beat("runs")  # too soon
    assert first.wish(1) == "stop"
    first.ask("runs")
    assert first.wish(1) == "runs"
    first.ask("kill")
    assert first.wish(1) == "kill"
    other, second = Post.open(tmp_path, "slurm"), Post.open(tmp_path, "ray")
    assert first.wish(1) == "stop"
    first.write(1, JobEvent("a", "started"))  # read by nobody
    assert other.wish(1) == second.wish(1) == "runs"


def test_a_half_written_event_is_read_when_it_is_whole(tmp_path: Path) -> None:
    box = Post.open(tmp_path, "ray")
    assert box.read(1, 0).events == []
    box.write(1, JobEvent("a", "progress", progress={"step": 3}))
    file = box.folder / "job-1.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + whole[:10])
    letters = box.read(1, 0)
    assert [event.progress for event in letters.events] == [{"step": 3}]
    file.write_bytes(whole * 2)
    assert len(box.read(1, letters.offset).events) == 1


def test_machines_find_the_store_where_the_sweep_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", "/shared")
    monkeypatch.setenv("HOME", "/home/me")
    assert host.carried() == {"DEBIASCTL_HOME": "/shared"}
    monkeypatch.setenv("DEBIASCTL_HOME", "~/store")
    monkeypatch.setenv("DEBIASCTL_DATA", "data")
    assert host.carried() == {"DEBIASCTL_HOME": "/home/me/store", "DEBIASCTL_DATA": f"{Path.cwd()}/data"}
    monkeypatch.delenv("DEBIASCTL_HOME")
    assert host.carried()["HOME"] == "/home/me"


def test_logs_of_a_killed_sweep_are_replaced(engine: Threads, tmp_path: Path) -> None:
    run(engine, tmp_path, Job("a", "jobs:misuse", {}))
    (before,) = tmp_path.glob("threads-*")
    assert any(file.name == "worker-1.log" for file in before.rglob("*"))
    run(Threads(), tmp_path, Job("a", "jobs:misuse", {}))
    (after,) = tmp_path.glob("threads-*")
    assert after != before
    shutil.rmtree(after)


def test_a_cluster_that_takes_no_job_for_a_moment_is_asked_again(
    engine: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_REFUSED", 0.0)
    engine.refusals = {2: 3}  # before the second job
    events = run(engine, tmp_path, Job("a", "jobs:misuse", {}), Job("b", "jobs:misuse", {}))
    assert set(ends(events)) == {"a", "b"}
    assert engine.refusals == {2: 0}


def test_a_cluster_that_takes_no_job_for_long_ends_the_sweep(
    engine: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_REFUSED", 0.0)
    monkeypatch.setattr(remote, "_REFUSED_FOR", 0.0)
    engine.refusals = {1: 1000}
    with pytest.raises(UsageError, match="the queue is full"):
        run(engine, tmp_path, Job("a", "jobs:misuse", {}))


def test_a_job_whose_machine_is_not_heard_of_is_sent_again_where_the_cluster_knows_nothing(
    engine: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Post, "is_silent", lambda self, number: number == 1)
    engine.stuck, engine.most, engine.is_blind = ("a",), 2, True
    engine.frees = ("a",)  # the second time it is begun
    events = run(engine, tmp_path, Job("a", "jobs:misuse", {}))
    assert engine.withdrawn == ["a"]
    assert [event.kind for event in events] == ["started", "failed"]


def test_a_host_is_silent_once_it_has_not_looked_for_minutes(tmp_path: Path) -> None:
    box = Post.open(tmp_path, "ray")
    assert not box.is_silent(1)  # it has not begun
    assert box.wish(1) == "runs"
    assert not box.is_silent(1)
    heard = time.time() - 1000
    os.utime(box.folder / "job-1.jsonl", (heard, heard))
    assert box.is_silent(1)


def test_a_signal_of_the_cluster_stops_the_job_gently(engine: Threads, tmp_path: Path) -> None:
    file = tmp_path / "file"
    made = host.Host()
    box = Post.open(tmp_path, "slurm")
    job = {"name": "a", "target": "jobs:wait", "arguments": {"file": str(file)}}
    order = {"post": str(box.folder), "number": 1, "version": host.own_version(), "environment": {}, "threads": 1}

    def evacuate() -> None:
        while not (file.exists() and file.read_text()):
            time.sleep(0.01)
        made.evacuate(signal.SIGTERM, None)

    thread = threading.Thread(target=evacuate)
    thread.start()
    outcome = post.outcome_of(made.perform(order | {"seconds": None, "job": job}))
    thread.join()
    made.close()
    assert outcome.event is not None
    assert outcome.event.kind == "stopped"
    assert file.read_text() == "stopped"


def test_slurms_signals_are_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[int, object] = {}
    monkeypatch.setattr(signal, "signal", taken.__setitem__)
    monkeypatch.setattr(
        host.Host, "perform", lambda self, order: {"handlers": {n: h.__name__ for n, h in taken.items()}}
    )
    wanted = dict.fromkeys((signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2), "evacuate")
    assert host.perform_order({})["handlers"] == wanted
