"""The engine of SLURM: what sbatch is given, and what is refused; with stand-ins for SLURM's programs."""

from pathlib import Path
from typing import Any

import pytest
from clusters import fake_slurm

from debiasctl import registry
from debiasctl.api import Job, Workplace
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
            {"time=240", "cpus-per-task=2", "job-name=run-a"},
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
    from debiasctl.builtin.engines._support.post import Post

    post = Post.open(tmp_path, "slurm")
    assert engine.prepare(Workplace(tmp_path, None, device, 2), post, 5000) == 1000
    assert engine.prepare(Workplace(tmp_path, 4, device, 2), post, 5000) == 4
    engine.send({"job": {}}, "run-a")
    lines = {line.removeprefix("#SBATCH --") for line in sent.read_text().splitlines() if line.startswith("#SBATCH")}
    assert has <= lines
    assert not {line for line in lines if line.split("=")[0].split("-")[0] in has_not}
    assert any(line.startswith(f"output={post.folder}") for line in lines)


@pytest.mark.parametrize(
    "options, device, message",
    [
        (":gpus=1", "cpu", "contradicts `device=cpu`"),
        ("", "cuda", "have no GPU. Give it gpus=1"),
        (":gpus=1", "cuda:0", "SLURM chooses the GPU"),
        (":cpus=1", "cpu", "less than the 2 `threads` of a run"),
        (":time=0", "cpu", "time"),
        (":queue=x", "cpu", "queue"),
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


def test_a_job_that_ended_without_a_result_has_failed_with_where_to_look(tmp_path: Path) -> None:
    import submitit

    from debiasctl.builtin.engines.slurm import _SlurmSent

    class Gone:
        job_id, state = "12", "NODE_FAIL"
        paths: Any = submitit.core.utils.JobPaths(tmp_path, "12")

        def done(self) -> bool:
            return True

        def result(self) -> Any:
            raise submitit.core.utils.UncompletedJobError("no output")

    outcome = _SlurmSent(Gone(), "a").outcome()
    assert outcome is not None
    assert outcome.event is not None
    assert outcome.event.kind == "failed"
    assert "SLURM job 12 ended in state NODE_FAIL" in str(outcome.event.reason)
    assert "shared storage" in str(outcome.event.reason)
