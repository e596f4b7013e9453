"""The engine of Ray: its options, what a job takes of the cluster, and what it says; with a stand-in for ray."""

import importlib.util
from pathlib import Path

import pytest
from clusters import fake_ray

from debiasctl import registry
from debiasctl.api import Engine, Job, JobEvent, Workplace
from debiasctl.errors import UsageError

NODES = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 3.0}]


def run(engine: Engine, folder: Path, *names: str, jobs: int | None = None, device: str = "cpu") -> list[JobEvent]:
    events: list[JobEvent] = []
    work = [Job(name, "jobs:misuse", {}) for name in names]
    engine.run(work, Workplace(folder, jobs, device, 2), on_event=events.append, stopping=lambda: False)
    return events


@pytest.mark.parametrize("name, package", [("ray", "ray"), ("slurm", "submitit")])
def test_a_missing_package_is_named_with_what_installs_it(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda one, *rest: None if one == package else find(one, *rest))
    with pytest.raises(UsageError, match=rf"needs the package {package}, .*: pip install 'debiasctl\[{name}\]'"):
        registry.create("engines", name)


@pytest.mark.parametrize(
    "options, device, takes, room",
    [
        ("", "cpu", {"num_cpus": 2.0, "num_gpus": 0.0}, 5),
        ("", "auto", {"num_cpus": 2.0, "num_gpus": 1.0}, 2),
        (":num_gpus=0.5,num_cpus=1", "cuda", {"num_cpus": 1.0, "num_gpus": 0.5}, 4),
        (":num_gpus=0,num_cpus=8", "auto", {"num_cpus": 8.0, "num_gpus": 0.0}, 1),
    ],
)
def test_a_job_takes_cpus_and_gpus_and_as_many_run_as_there_is_room_for(
    options: str, device: str, takes: dict[str, float], room: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ray = fake_ray(monkeypatch, NODES)
    engine = registry.create("engines", f"ray{options}")
    workplace = Workplace(tmp_path, None, device, 2)
    assert engine.prepare(workplace, None, 100) == room
    assert engine.prepare(Workplace(tmp_path, 3, device, 2), None, 100) == 3
    engine.send({"job": {"name": "a"}, "post": str(tmp_path), "version": "other"}, "a")
    (made,) = ray.made
    assert {name: made[name] for name in takes} == takes
    assert ray.begun[0]["address"] is None


@pytest.mark.parametrize(
    "options, device, message",
    [
        (":num_cpus=9", "cpu", "no machine of the Ray cluster has 9 CPUs for a job; the largest has 8 CPUs"),
        (":num_gpus=3", "auto", "has 2 CPUs and 3 GPUs"),
        (":num_gpus=1", "cpu", "contradicts `device=cpu`"),
        (":num_gpus=0", "cuda", "have no GPU"),
        ("", "cuda:1", "Ray chooses the GPU"),
    ],
)
def test_what_the_cluster_cannot_give_is_refused(
    options: str, device: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_ray(monkeypatch, NODES)
    with pytest.raises(UsageError, match=message):
        run(registry.create("engines", f"ray{options}"), tmp_path, "a", device=device)


def test_an_unreachable_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = fake_ray(monkeypatch, NODES)

    def init(**settings: object) -> None:
        raise ConnectionError("nobody answers.\nand much more")

    ray.init = init
    with pytest.raises(UsageError, match=r"Ray cannot be reached at auto: nobody answers\. Give the engine another"):
        run(registry.create("engines", "ray:address=auto"), tmp_path, "a")
    with pytest.raises(UsageError, match=r"Ray cannot be reached at 127\.0\.0\.1:1: .*refused"):
        run(registry.create("engines", "ray:address=127.0.0.1:1"), tmp_path, "a")


def test_workers_are_kept_one_that_died_fails_its_job_and_all_end_with_the_engine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    ray = fake_ray(monkeypatch, NODES)
    ray.break_on, ray.why = ("b",), "The actor died.\nIts node failed."
    engine = registry.create("engines", "ray")
    events = run(engine, tmp_path, "a", "b", "c", jobs=1)
    assert [(event.job, event.kind) for event in events if event.kind != "progress"] == [
        (name, kind) for name in "abc" for kind in ("started", "failed")
    ]
    assert [event.reason for event in events if event.kind == "failed"][1] == "its Ray worker ended: The actor died"
    assert len(ray.made) == 2  # a's takes b and dies; c has another
    assert len(ray.killed) == 1
    engine.close()
    assert len(ray.killed) == 2
    assert ray.begun == []


def test_a_machine_without_debiasctl_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ray = fake_ray(monkeypatch, NODES)
    ray.break_on, ray.why = ("a",), "creation failed:\nModuleNotFoundError: No module named 'debiasctl'"
    with pytest.raises(UsageError, match=r"debiasctl is not installed on a machine of the Ray cluster: .*'debiasctl'$"):
        run(registry.create("engines", "ray"), tmp_path, "a")


def test_a_ray_that_the_callers_program_uses_is_left_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    ray = fake_ray(monkeypatch, NODES)
    ray.begun.append("theirs")
    engine = registry.create("engines", "ray")
    run(engine, tmp_path, "a")
    engine.close()
    assert ray.begun == ["theirs"]
    assert len(ray.killed) == 1
