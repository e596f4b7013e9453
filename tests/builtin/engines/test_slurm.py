"""The engine of SLURM: what sbatch is given, and what is refused; with stand-ins for SLURM's programs."""

import os
from pathlib import Path
from typing import Any

import pytest
from clusters import fake_slurm

from debiasctl import registry
from debiasctl.api import Job, Workplace
from debiasctl.builtin.engines._support.post import Post
from debiasctl.builtin.engines._support.remote import Refused
from debiasctl.builtin.engines.slurm import _SlurmSent, outside_of_jobs
from debiasctl.errors import DebiasctlError, UsageError

pytest.importorskip("submitit", reason="the extra debiasctl[slurm] is not installed")


def run(options: str, folder: Path, *names: str, device: str = "cpu") -> None:
    jobs = [Job(name, "jobs:misuse", {}) for name in names]
    engine = registry.create("engines", f"slurm{options}")
    engine.run(jobs, Workplace(folder, None, device, 2), on_event=print, stopping=lambda: False)


@pytest.mark.parametrize(
    "options, device, has, has_not",
    [
        (
            "",
            "auto",
            {"time=240", "cpus-per-task=2", "job-name=run-a", "no-requeue"},
            {"partition", "account", "gpus", "mem", "qos"},
        ),
        (
            ':partition=gpu,account=lab,time=90,gpus=1,cpus=8,mem=24,parameters={"qos": "long", "exclusive": true}',
            "cuda",
            {"partition=gpu", "account=lab", "time=90", "gpus-per-node=1", "cpus-per-task=8", "mem=24GB", "qos=long",
                "exclusive"},
            set(),
        ),
    ],
)  # fmt: skip
def test_options_are_sbatchs(
    options: str, device: str, has: set[str], has_not: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = tmp_path / "sent"
    fake_slurm(tmp_path / "bin", monkeypatch, f'cp "$1" {sent}; echo Submitted batch job 12')
    engine = registry.create("engines", f"slurm{options}")
    post = Post.open(tmp_path, "slurm")
    assert engine.prepare(Workplace(tmp_path, None, device, 2), post, 5000) == 1000
    assert engine.prepare(Workplace(tmp_path, 4, device, 2), post, 5000) == 4
    engine.send({"job": {}}, "run-a")
    lines = {line.removeprefix("#SBATCH --") for line in sent.read_text().splitlines() if line.startswith("#SBATCH")}
    assert has <= lines
    assert not {line for line in lines if line.split("=")[0].split("-")[0] in has_not}
    assert any(line.startswith(f"output={post.folder}") for line in lines)
    cpus = next(line.partition("=")[2] for line in lines if line.startswith("cpus-per-task"))
    assert f" -c {cpus} " in next(line for line in sent.read_text().splitlines() if line.startswith("srun"))


@pytest.mark.parametrize(
    "options, device, message",
    [
        (":gpus=1", "cpu", "contradicts `device=cpu`"),
        ("", "cuda", "have no GPU. Give it gpus=1"),
        (":gpus=1", "cuda:0", "SLURM chooses the GPU"),
        (":cpus=1", "cpu", "less than the 2 `threads` of a run"),
        (":time=0", "cpu", "time"),
        (":queue=x", "cpu", "queue"),
        (':parameters={"gres": "gpu:1"}', "cpu", "parameters.gres .*contradicts `device=cpu`"),
        (':gpus=1,parameters={"gpus_per_task": 1}', "cuda", "gpus=1 and parameters.gpus_per_task"),
        (':parameters={"gres": "tmp:10G"}', "cuda", "have no GPU. Give it gpus=1"),
        (':parameters={"time": "1:00:00"}', "cpu", "parameters.time .* Use its option time"),
        (':parameters={"array": "0-3"}', "cpu", "parameters.array .*the engine sets it itself"),
        (':parameters={"exclusive": false}', "cpu", "parameters.exclusive=false .*Leave it out"),
    ],
)
def test_options_that_contradict_the_sweep_are_refused(options: str, device: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DebiasctlError, match=message):
        run(options, tmp_path, "a", device=device)


def test_a_machine_without_slurm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="there is no program srun"):
        run("", tmp_path, "a")


def test_what_sbatch_says_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_slurm(tmp_path / "bin", monkeypatch, "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")
    with pytest.raises(UsageError, match=r"SLURM does not take the job: .*invalid partition specified: x"):
        run(":partition=x", tmp_path, "a")


def test_gpus_that_a_parameter_asks_for_are_not_hidden_from_the_job() -> None:
    def gpus(options: str) -> float | None:
        found: float | None = registry.create("engines", f"slurm{options}").gpus()
        return found

    assert gpus("") == 0
    assert gpus(":gpus=2") == 2
    assert gpus(':parameters={"gres": "gpu:a100:1"}') is None


def test_a_refusal_after_the_first_job_is_the_moments_and_not_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = tmp_path / "full"
    says = "echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2; exit 1"
    fake_slurm(tmp_path / "bin", monkeypatch, f"test -e {full} && {{ {says}; }}; echo Submitted batch job 12")
    engine = registry.create("engines", "slurm")
    engine.prepare(Workplace(tmp_path, None, "cpu", 2), Post.open(tmp_path, "slurm"), 2)
    engine.send({"job": {}}, "run-a")
    full.touch()
    with pytest.raises(Refused, match="QOSMaxSubmitJobPerUserLimit"):
        engine.send({"job": {}}, "run-b")


def test_a_sweep_within_a_job_hides_that_job_from_those_that_it_submits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = {"SLURM_MEM_PER_CPU": "4096", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "lab", "RANK": "0"}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with outside_of_jobs():
        assert mine.items() <= dict(os.environ).items()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with outside_of_jobs():
        assert not {"SLURM_JOB_ID", "SLURM_MEM_PER_CPU", "RANK"} & os.environ.keys()
        assert {"SLURM_CONF", "SBATCH_ACCOUNT"} <= os.environ.keys()
    assert mine.items() <= dict(os.environ).items()


class Gone:
    """A job of SLURM that ended without a result; submitit takes a preempted one for one that will be requeued."""

    job_id = "12"

    def __init__(self, state: str, folder: Path) -> None:
        import submitit

        self.state, self.paths = state, submitit.core.utils.JobPaths(folder, "12")

    def done(self) -> bool:
        return self.state != "PREEMPTED"

    def result(self) -> Any:
        import submitit

        raise submitit.core.utils.UncompletedJobError("no output")


@pytest.mark.parametrize("state", ["NODE_FAIL", "TIMEOUT", "PREEMPTED"])
def test_a_job_that_the_cluster_ended_is_sent_again(state: str, tmp_path: Path) -> None:
    outcome = _SlurmSent(Gone(state, tmp_path), "a").outcome()
    assert outcome is not None
    assert outcome.event is not None
    assert outcome.event.kind == "stopped"
    assert f"SLURM job 12 ended in state {state}" in str(outcome.event.reason)


def test_a_job_that_ended_without_a_result_has_failed_with_where_to_look(tmp_path: Path) -> None:
    sent = _SlurmSent(Gone("OUT_OF_MEMORY", tmp_path), "a")
    assert not sent.is_unknown()
    outcome = sent.outcome()
    assert outcome is not None
    assert outcome.event is not None
    assert outcome.event.kind == "failed"
    assert "SLURM job 12 ended in state OUT_OF_MEMORY" in str(outcome.event.reason)
    assert "shared storage" in str(outcome.event.reason)


def test_where_slurm_keeps_no_accounts_a_jobs_silence_tells(tmp_path: Path) -> None:
    assert _SlurmSent(Gone("UNKNOWN", tmp_path), "a").is_unknown()
