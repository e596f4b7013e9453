"""Whatever happens to a training, what was trained is not lost: kills, full disks, damaged files."""

import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny import (
    assert_same_end,
    debiasctl,
    error_of,
    make_spec,
    resume,
    same_state,
    stored_state,
    succeed,
    train,
    wait_for_step,
)

from debiasctl import files
from debiasctl.errors import CheckpointError, UsageError
from debiasctl.models.checkpoint_files import verify
from debiasctl.runs import metrics as metrics_file
from debiasctl.runs.store import Run, find_run, read_metrics
from debiasctl.specs.sections import RunSpec

DROPOUT = "dit:hidden_size=16,depth=1,num_heads=2,dropout=0.3"  # draws from torch's own generator
KILLED = {"model__backbone": DROPOUT, "data__horizontal_flip": True, "training__steps": 60,
          "training__checkpoint_every": 2, "training__heldout_every": 10}  # fmt: skip


def leftovers(run: Run) -> list[str]:
    """What is being written, or was when the process died."""
    try:
        return [entry.name for entry in os.scandir(run.path / "checkpoints") if entry.name.startswith(".")]
    except FileNotFoundError:
        return []


def write_spec(folder: Path, spec: RunSpec) -> Path:
    file = folder / "spec.json"
    file.write_text(json.dumps(spec.model_dump(mode="json")))
    return file


# ---------------------------------------------------------------- SIGKILL


@contextmanager
def process_of(*arguments: str | Path) -> Iterator[subprocess.Popen]:
    """`debiasctl ARGUMENTS` in a process of its own, which does not outlive the block."""
    command = [sys.executable, "-m", "debiasctl", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_while_writing(process: subprocess.Popen, run: Run) -> None:
    """Kill it when a checkpoint's folder has its temporary name: stopped first, to look again."""
    while process.poll() is None:
        if leftovers(run):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if leftovers(run):
                break
            process.send_signal(signal.SIGCONT)


def kill(arguments: list[str | Path], name: str, *, target: int, aimed: bool, delay: float) -> None:
    """Start or go on, and kill the process at a moment after its `target`-th step, or in the next write after it."""
    with process_of(*arguments) as process:
        wait_for_step(process, name, target)
        time.sleep(delay)
        if aimed:
            kill_while_writing(process, Run(find_run(name).path))


@pytest.mark.parametrize(
    "trial", [*range(3), *(pytest.param(number, marks=pytest.mark.slow) for number in range(3, 20))]
)
def test_a_run_killed_at_any_moment_and_resumed_equals_one_that_never_stopped(trial: int, tmp_path: Path) -> None:
    generator = random.Random(trial)
    aims = {0: [False], 1: [True], 2: [True, False]}.get(trial) or generator.choices([True, False], k=trial % 3 + 1)
    spec = make_spec(**KILLED)
    arguments: list[str | Path] = ["train", "--spec", write_spec(tmp_path, spec), "--name", "run"]
    step = 0
    for aimed in aims:
        step = generator.randint(step + 1, min(step + 25, 55))
        kill(arguments, "run", target=step, aimed=aimed, delay=generator.uniform(0, 0.03))
        run = find_run("run")
        if run.status().state == "finished":
            break
        assert run.status().state == "interrupted"
        assert bool(leftovers(run)) or not aimed  # the kill hit the writing of a checkpoint
        step = run.checkpoint_steps()[-1]
        verify(run.checkpoint_path(step), run)
        arguments = ["train", "--resume", "run"]
    if run.status().state != "finished":
        outcome = succeed("train", "--resume", "run")
        begun = f"from step {step}" if step else "from the start"
        assert f"{begun} to step 60" in outcome.err
    assert leftovers(run) == []
    assert_same_end(run, train("whole", spec))


# ---------------------------------------------------------------- damaged files


def damages(data: bytes) -> dict[str, bytes]:
    middle = len(data) // 2
    return {
        "emptied": b"",
        "cut": data[:middle],
        "a byte short": data[:-1],
        "longer": data + b"\0",
        "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "zeros": bytes(len(data)),
    }


@pytest.mark.parametrize("file", ["model.safetensors", "ema.safetensors", "state.pt", "manifest.json"])
def test_a_damaged_last_checkpoint_leads_back_to_the_one_before_and_to_the_same_end(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train("whole", make_spec())
    run = train("run", make_spec())
    path = run.checkpoint_path(6) / file
    before = path.read_bytes()
    for damage, data in damages(before).items():
        if file == "manifest.json" and damage in ("a byte short", "longer"):
            continue  # the last byte is a line's end, and says nothing
        path.write_bytes(data)
        run.update_status(state="training")  # as if it had been killed
        outcome = debiasctl("train", "--resume", "run")
        assert outcome.code == 0, (damage, outcome.err)
        found = re.search(r"checkpoint 6 of run 'run' is damaged .*Resuming from checkpoint 3", caplog.text)
        assert found, damage
        assert str(path.parent) in found[0]
        caplog.clear()
        assert_same_end(run, whole)
        verify(path.parent, run)
        assert leftovers(run) == []


def test_any_byte_of_a_manifest() -> None:
    """A flip either shows, or changes nothing that the manifest says."""
    run = train("run", make_spec())
    file = run.checkpoint_path(6) / "manifest.json"
    before = file.read_bytes()
    said = json.loads(before)
    for position in range(0, len(before), 3):
        file.write_bytes(before[:position] + bytes([before[position] ^ 4]) + before[position + 1 :])
        try:
            sums = verify(run.checkpoint_path(6), run)
        except CheckpointError:
            continue
        assert sums == said["sha256"]
        assert json.loads(file.read_bytes()) == said


@pytest.mark.parametrize("steps", [None, 6])
def test_a_finished_run_whose_last_checkpoint_is_damaged_trains_the_rest_again(
    steps: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    whole = train("whole", make_spec())
    run = train("run", make_spec())
    (run.checkpoint_path(6) / "ema.safetensors").write_bytes(b"")
    assert resume(run, steps=steps) == [4, 5, 6]
    assert re.search(r"checkpoint 6 of run 'run' is damaged .*Resuming from checkpoint 3", caplog.text)
    assert "changes its course" not in caplog.text
    assert_same_end(run, whole)
    with pytest.raises(UsageError, match="there is nothing to do"):
        resume(run, steps=steps)


def test_a_damaged_last_checkpoint_is_no_reason_to_lower_a_budget() -> None:
    run = train("run", make_spec())
    (run.checkpoint_path(6) / "ema.safetensors").write_bytes(b"")
    with pytest.raises(UsageError, match="which cannot be lowered to 5"):
        resume(run, steps=5)


def test_a_larger_budget_goes_on_from_the_last_whole_checkpoint() -> None:
    spec = make_spec(optimizer__decay="none")
    run = train("run", spec)
    (run.checkpoint_path(6) / "state.pt").write_bytes(b"")
    assert resume(run, steps=9) == [4, 5, 6, 7, 8, 9]
    long = train("long", make_spec(optimizer__decay="none", training__steps=9))
    assert same_state(stored_state(run, 9), stored_state(long, 9))


def test_a_run_whose_checkpoints_are_all_damaged_is_left_as_it_was() -> None:
    run = train("run", make_spec())
    for step in (3, 6):
        (run.checkpoint_path(step) / "ema.safetensors").write_bytes(b"")
    before = {path: path.read_bytes() for path in run.path.rglob("*.*") if path.is_file()}
    message = error_of("train", "--resume", "run", "--steps", "9", code=1)
    assert message.startswith("checkpoint 6 of run 'run' is damaged (ema.safetensors differs from its checksum)")
    assert "\ncheckpoint 3 of run 'run' is damaged" in message
    assert "No checkpoint of run 'run' is whole. Restore one from a copy" in message
    after = {path: path.read_bytes() for path in run.path.rglob("*.*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [path.name for path in before if after[path] != before[path]] == []


# ---------------------------------------------------------------- a full disk


class Disk:
    """Counts what is written to files, and is full from the `full_at`-th write on: half of that one is taken yet."""

    def __init__(self, full_at: int) -> None:
        self.full_at, self.writes = full_at, 0

    def open(self, path: Any, mode: str = "r", buffering: int = -1, **options: Any) -> Any:
        if not set(mode) & set("wax"):
            return io.open(path, mode, buffering, **options)  # noqa: UP020 - `open` is what is replaced
        assert "b" in mode
        raw = FullFile(self, path, mode.replace("b", ""))
        return raw if buffering == 0 else io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)


class FullFile(io.FileIO):
    def __init__(self, disk: Disk, path: Any, mode: str) -> None:
        self.disk = disk
        super().__init__(path, mode)

    def write(self, data: Any) -> int:
        self.disk.writes += 1
        if self.disk.writes >= self.disk.full_at:
            if self.disk.writes == self.disk.full_at:
                super().write(bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return super().write(data)


def on(disk: Disk, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(files, "open", disk.open, raising=False)
        patch.setattr(metrics_file, "open", disk.open, raising=False)
        return debiasctl(*arguments)


@pytest.mark.parametrize("first", [3, *(pytest.param(number, marks=pytest.mark.slow) for number in range(4, 8))])
def test_a_disk_that_is_full_at_any_write_stops_training_and_nothing_is_lost(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(training__steps=2, training__checkpoint_every=1, training__keep_last=1)
    file = write_spec(tmp_path, spec)
    whole = train("whole", spec)
    counted = Disk(full_at=10**9)
    assert on(counted, monkeypatch, "train", "--spec", file, "--name", "counted").code == 0
    assert counted.writes > 30
    # the first two make the run's folder, whole or not at all: test_runs
    for number in range(first, counted.writes + 1, 5):
        outcome = on(Disk(number), monkeypatch, "train", "--spec", file, "--name", f"run-{number}")
        assert outcome.code == 1, (number, outcome.err)
        assert outcome.err.count("error: ") == 1, number
        assert re.search(r"^error: cannot write .*: the disk is full\. Free some space", outcome.err, re.MULTILINE), (
            number
        )
        assert "Traceback" not in outcome.err
        run = find_run(f"run-{number}")
        for step in run.checkpoint_steps():
            verify(run.checkpoint_path(step), run)
        read_metrics(run)
        assert run.status().state in ("interrupted", "failed", "created"), number
        assert leftovers(run) == []
        reached = (run.checkpoint_steps() or [0])[-1]
        assert resume(run) == list(range(reached + 1, 3)), number
        assert_same_end(run, whole)
        shutil.rmtree(run.path)


def test_a_small_disk_that_fills_up(tmp_path: Path) -> None:
    """A real one: mounted in a name space of its own, and copied from there when training has ended."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        pytest.skip("needs Linux and unshare")
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    probe = ["unshare", "-Urm", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount")
    spec = make_spec(training__steps=200, training__keep_last=100)
    script = (
        'mount -t tmpfs -o size=1500k tmpfs "$1" && DEBIASCTL_HOME="$1/home" '
        '"$2" -m debiasctl train --spec "$3" --name run; code=$?; cp -r "$1/home" "$4"; exit $code'
    )
    command = ["unshare", "-Urm", "sh", "-c", script, "sh", disk, sys.executable, write_spec(tmp_path, spec), out]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stderr
    assert result.stderr.count("error: ") == 1
    assert "error: cannot write" in result.stderr
    assert "the disk is full. Free some space" in result.stderr
    run = find_run(f"{out}/runs/run")
    assert run.status().state in ("failed", "interrupted")  # the status may not have found room
    steps = run.checkpoint_steps()
    assert len(steps) > 3
    for step in steps:
        verify(run.checkpoint_path(step), run)
    assert leftovers(run) == []
    assert resume(run) == list(range(steps[-1] + 1, 201))
    assert_same_end(run, train("whole", spec))
