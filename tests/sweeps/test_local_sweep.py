"""A sweep by the workers of this machine: one killed, the sweep stopped, the sweep killed, and the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from tiny import OPTIONS, assert_same_end, succeed

from debiasctl.paths import runs_dir
from debiasctl.runs.metrics import latest_speed
from debiasctl.runs.store import find_run
from debiasctl.sweeps.store import find_sweep

TINY = (*OPTIONS, "--steps", "80", "--checkpoint-every", "8", "--set", "training.log_every=2", "--device", "cpu")
SWEEP = ("sweep", "digits", *TINY, "--seeds", "1", "--jobs", "2", "--threads", "1", "--num", "8", "--evaluate-steps",
    "2", "--features", "pixels:dimension=4")  # fmt: skip
TWO = (*SWEEP, "--weighting", "constant,p2")
RUNS = ("digits-constant-s0", "digits-p2-s0")


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "debiasctl", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reached(step: int) -> bool:
    """Whether a run has been trained so far, as its metrics say."""
    found = [latest_speed(runs_dir() / name / "metrics.jsonl") for name in RUNS]
    return any(one is not None and one[0] >= step for one in found)


def workers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    return psutil.Process(process.pid).children()


def test_a_killed_workers_run_is_resumed_from_its_checkpoint(debiasctl_home: Path) -> None:
    with start(*SWEEP, "--weighting", "constant", "--json") as sweep:
        wait_until(lambda: reached(12) and workers(sweep), sweep)
        os.kill(workers(sweep)[0].pid, signal.SIGKILL)
        out, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, err
    (run,) = json.loads(out)["runs"]
    assert run["state"] == "done"
    assert run["failures"] == ["its process was killed by SIGKILL, perhaps because memory ran out"]
    assert f"run '{RUNS[0]}' failed: its process was killed by SIGKILL" in err
    succeed("train", "digits", *TINY, "--weighting", "constant", "--name", "alone")
    assert_same_end(find_run(RUNS[0]), find_run("alone"))


@pytest.mark.slow
def test_whatever_is_killed_no_run_is_lost_and_weights_stay_the_same(debiasctl_home: Path) -> None:
    with start(*TWO) as sweep:  # Ctrl-C
        wait_until(lambda: reached(6), sweep)
        sweep.send_signal(signal.SIGINT)
        _, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 130, err
    assert "Resume it: debiasctl sweep --resume digits" in err
    stopped = [find_run(name).status() for name in RUNS if (runs_dir() / name).is_dir()]
    assert "interrupted" in {status.state for status in stopped}
    with start("sweep", "--resume", "digits", "--jobs", "2") as sweep:  # SIGKILL of the sweep
        wait_until(lambda: reached(20), sweep)
        orphans = workers(sweep)
        sweep.kill()
        sweep.communicate(timeout=60)
    psutil.wait_procs(orphans, timeout=120)
    assert not any(orphan.is_running() for orphan in orphans)
    with start("sweep", "--resume", "digits", "--jobs", "2", "--json") as sweep:  # SIGKILL of a worker
        wait_until(lambda: reached(40) and workers(sweep), sweep)
        os.kill(workers(sweep)[0].pid, signal.SIGKILL)
        out, err = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, err
    assert "failed: its process was killed by SIGKILL" in err
    assert {run["state"] for run in json.loads(out)["runs"]} == {"done"}
    assert [event.kind for event in find_sweep("digits").events()].count("failed") == 1
    for name, weighting in zip(RUNS, ("constant", "p2"), strict=True):
        succeed("train", "digits", *TINY, "--weighting", weighting, "--name", f"alone-{weighting}")
        assert_same_end(find_run(name), find_run(f"alone-{weighting}"))
