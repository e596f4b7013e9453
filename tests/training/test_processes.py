"""One process, several, sharded ones and accumulation are one training."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import error_of, make_spec, metrics, stored_state, train

from debiasctl.cli.launch import without_option
from debiasctl.runs.store import Run

STEPS = 20
SETTINGS = {
    "training__steps": STEPS, "training__checkpoint_every": 8, "training__log_every": 5, "compute__precision": "fp64",
    "loss__timesteps": "loss-second-moment:history=1", "diffusion__schedule": "cosine:num_timesteps=20",
    "loss__weighting": "uncertainty", "data__horizontal_flip": True,
}  # fmt: skip


def spec_file(folder: Path, **settings) -> Path:
    path = folder / "spec.json"
    path.write_text(json.dumps(make_spec(**SETTINGS | settings).model_dump(mode="json")))
    return path


def launch(*arguments: str | Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "debiasctl", "train", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)  # beside others


def differences(one: Run, other: Run, step: int = STEPS) -> list[float]:
    first, second = stored_state(one, step), stored_state(other, step)
    assert first.keys() == second.keys()
    return [
        float((value.double() - second[name].double()).abs().max())
        for name, value in first.items()
        if isinstance(value, torch.Tensor) and value.numel()
    ]


def assert_close(one, other) -> None:
    """Nested lists and mappings of equal shape, numbers to 1e-9."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_close(value, other[key])
    elif isinstance(one, list):
        for first, second in zip(one, other, strict=True):
            assert_close(first, second)
    else:
        assert one == (pytest.approx(other, rel=1e-9, abs=1e-12) if isinstance(one, float) else other)


def test_several_processes_end_as_one(tmp_path: Path, debiasctl_home: Path) -> None:
    """The loss history, the learned weighting and the records are the whole batch's, too."""
    one = train("one", make_spec(**SETTINGS))
    done = launch("--spec", spec_file(tmp_path), "--name", "two", "--processes", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is finished at step 20") == 1  # one process speaks
    two = Run(debiasctl_home / "runs" / "two")
    assert max(differences(one, two)) < 1e-10
    assert_close(metrics(one), metrics(two))


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulation_changes_nothing(parts: int) -> None:
    one = train("one", make_spec(**SETTINGS))
    other = train("parts", make_spec(**SETTINGS, compute__accumulation=parts))
    assert max(differences(one, other)) < 1e-10
    assert_close(metrics(one), metrics(other))


def test_in_single_precision_the_difference_is_one_of_rounding() -> None:
    settings = {**SETTINGS, "compute__precision": "fp32"}
    one = train("one", make_spec(**settings))
    other = train("parts", make_spec(**settings, compute__accumulation=2))
    weights = [load_file(run.checkpoint_path(STEPS) / "model.safetensors") for run in (one, other)]
    gap = max(float((value - weights[1][name]).abs().max()) for name, value in weights[0].items())
    assert 0 < gap < 1e-4


@pytest.mark.slow
def test_checkpoints_more_or_less_leave_several_processes_records_the_same(
    tmp_path: Path, debiasctl_home: Path
) -> None:
    """To the last bit, in double precision, where every other order of summation shows."""
    for name, every in (("few", STEPS), ("many", 1)):
        settings = {"training__checkpoint_every": every, "training__heldout_every": STEPS}
        done = launch("--spec", spec_file(tmp_path, **settings), "--name", name, "--processes", "2", "--device", "cpu")
        assert done.returncode == 0, done.stderr
    few, many = (Run(debiasctl_home / "runs" / name) for name in ("few", "many"))
    assert metrics(few) == metrics(many)


@pytest.mark.slow
def test_weights_that_are_shared_out_are_the_same_weights(tmp_path: Path, debiasctl_home: Path) -> None:
    """Started, stopped and resumed under FSDP; the learned weighting and the averages of two lengths with it."""
    settings = {"ema__kind": "power"}
    one = train("one", make_spec(**SETTINGS, **settings))
    options = ("--processes", "2", "--device", "cpu")
    spec = spec_file(tmp_path, compute__sharding="fsdp", **settings)
    done = launch("--spec", spec, "--name", "two", "--max-hours", "1e-9", *options)
    assert done.returncode == 0, done.stderr
    assert "by the end of --max-hours" in done.stderr
    two = Run(debiasctl_home / "runs" / "two")
    assert 0 < two.checkpoint_steps()[-1] < STEPS
    done = launch("--resume", "two", *options)
    assert done.returncode == 0, done.stderr
    assert max(differences(one, two)) < 1e-10


@contextmanager
def two_processes(folder: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """The launcher of two processes that train a run named two for long, from its first record on."""
    spec = spec_file(folder, training__log_every=1)
    raw = json.loads(spec.read_text())
    raw["training"]["steps"] = 100_000
    spec.write_text(json.dumps(raw))
    command = [sys.executable, "-m", "debiasctl", "train", "--spec", spec, "--name", "two", "--processes", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        metrics = home / "runs" / "two" / "metrics.jsonl"
        deadline = time.monotonic() + 120
        while not metrics.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        yield process


@pytest.mark.slow
def test_a_signal_stops_all_processes_at_one_step(tmp_path: Path, debiasctl_home: Path) -> None:
    with two_processes(tmp_path, debiasctl_home) as process:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 130
    assert said.count("error: stopped at step") == 1
    run = Run(debiasctl_home / "runs" / "two")
    assert f"stopped at step {run.checkpoint_steps()[-1]} of 100000 by SIGINT" in said


@pytest.mark.slow
def test_workers_save_and_end_where_their_launcher_is_killed(tmp_path: Path, debiasctl_home: Path) -> None:
    with two_processes(tmp_path, debiasctl_home) as process:
        process.kill()
        said = process.communicate(timeout=120)[1]  # returns once no worker holds its end of the pipe
    run = Run(debiasctl_home / "runs" / "two")
    assert f"stopped at step {run.checkpoint_steps()[-1]} of 100000 by SIGTERM" in said
    assert run.status().state == "interrupted"


def test_what_cannot_be_shared_out_is_refused() -> None:
    message = error_of("train", "digits", "--set", "compute.sharding=fsdp", "--steps", "1", code=2)
    assert "--processes N" in message


def test_a_launched_process_launches_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    message = error_of("train", "digits", "--processes", "2", "--steps", "1", code=2)
    assert "torchrun has started this already" in message


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["a", "--processes", "2", "b"], ["a", "b"]),
        (["--processes=2", "b"], ["b"]),
        (["--processes-x", "2"], ["--processes-x", "2"]),
    ],
)
def test_the_option_is_taken_from_the_command_line(arguments: list[str], kept: list[str]) -> None:
    assert without_option(arguments, "--processes") == kept
