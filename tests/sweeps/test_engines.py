"""One tiny sweep by every engine: the same weights, bit for bit, the same figures and the same verdicts."""

import json
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
from test_local_sweep import RUNS, reached, wait_until
from tiny import OPTIONS, assert_same_end, succeed

from debiasctl.paths import runs_dir
from debiasctl.runs.store import find_run
from debiasctl.sweeps.store import find_sweep

ENGINES = {"ray": "ray:address=local", "slurm": "slurm:executor=local"}
PACKAGES = {"ray": "ray", "slurm": "submitit"}
TINY = (*OPTIONS, "--steps", "6", "--checkpoint-every", "3")
LONGER = (*OPTIONS, "--steps", "80", "--checkpoint-every", "8", "--set", "training.log_every=2")
SWEEP = ("sweep", "digits", "--weighting", "constant,p2", "--jobs", "2", "--threads", "1", "--num", "8",
    "--evaluate-steps", "2", "--features", "pixels:dimension=4", "--device", "cpu")  # fmt: skip


def sweep(*arguments: str) -> dict[str, Any]:
    """A sweep in a process of its own, as Ray and SLURM start others from it."""
    command = [sys.executable, "-m", "debiasctl", *SWEEP, *arguments, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def figures(run: str) -> list[Any]:
    return [json.loads(file.read_text())["metrics"] for file in sorted(find_run(run).evaluations_dir.glob("*.json"))]


def verdicts(name: str) -> Any:
    return json.loads((find_sweep(name).path / "study.json").read_text())["verdicts"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same_runs_and_verdicts(engine: str) -> None:
    pytest.importorskip(PACKAGES[engine], reason=f"the extra debiasctl[{engine}] is not installed")
    here = sweep(*TINY, "--seeds", "2", "--name", "here")
    there = sweep(*TINY, "--seeds", "2", "--name", "there", "--engine", ENGINES[engine])
    assert [run["state"] for run in there["runs"]] == ["done"] * 4
    assert [run["failures"] for run in there["runs"]] == [[]] * 4
    for one, other in zip(here["runs"], there["runs"], strict=True):
        assert_same_end(find_run(one["name"]), find_run(other["name"]))
        assert figures(one["name"]) == figures(other["name"])
    assert verdicts("here") == verdicts("there")
    assert here["answer"] == there["answer"]


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_keeps_what_was_trained_and_another_engine_resumes_it(engine: str) -> None:
    pytest.importorskip(PACKAGES[engine], reason=f"the extra debiasctl[{engine}] is not installed")
    command = [sys.executable, "-m", "debiasctl", *SWEEP, *LONGER, "--seeds", "1", "--engine", ENGINES[engine]]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_until(lambda: reached(6), process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    stopped = [find_run(name).status() for name in RUNS if (runs_dir() / name).is_dir()]
    assert {status.state for status in stopped} == {"interrupted"}
    succeed("sweep", "--resume", "digits", "--engine", "local")
    for name, weighting in zip(RUNS, ("constant", "p2"), strict=True):
        succeed("train", "digits", *LONGER, "--weighting", weighting, "--device", "cpu", "--name", f"alone-{weighting}")
        assert_same_end(find_run(name), find_run(f"alone-{weighting}"))
