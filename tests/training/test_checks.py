"""What is refused before anything is made or started: alike in a dry run, in one process and before several start."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import OPTIONS, debiasctl, error_of, make_spec, succeed, train

from debiasctl.errors import UsageError
from debiasctl.runs.store import Run, run_names
from debiasctl.training.checks import check_sharing

TRAIN = ("train", "digits", *OPTIONS, "--device", "cpu")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process counts with which torchrun was started; it does nothing."""
    counts: list[int] = []

    def elastic_launch(config: Any, entry: str) -> Any:
        return lambda *arguments: counts.append(config.nproc_per_node)

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", elastic_launch)
    return counts


@pytest.mark.parametrize("mode", [[], ["--dry-run"], ["--processes", "2"], ["--processes", "2", "--dry-run"]])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--track", "tensorbord"], "unknown tracker 'tensorbord'. Did you mean 'tensorboard'?"),
        (["--track", "clearml"], "--track clearml: its package is not installed here"),
        (["--precision", "fp16"], "--precision fp16 needs a CUDA GPU. On a CPU choose fp32, bf16 or fp64"),
        (["--accumulation", "9"], "which cannot be split into 9 parts. Give at most --accumulation "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    mode: list[str], arguments: list[str], message: str, started: list[int], debiasctl_home: Path
) -> None:
    assert message in error_of(*TRAIN, *arguments, *mode, code=2)
    assert started == []
    assert list(debiasctl_home.iterdir()) == []


@pytest.mark.parametrize("mode", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--processes", "3"],
            "a batch of 8 cannot be split evenly among 3 processes. Choose training.batch_size (--batch-size) as a",
        ),
        (
            ["--processes", "2", "--accumulation", "5"],
            "each process gets 4 images of the batch, which cannot be split into 5",
        ),
        (["--set", "compute.sharding=fsdp"], "but there is only one. Start several: --processes N"),
    ],
)
def test_so_is_what_cannot_be_shared_out(
    mode: list[str], arguments: list[str], message: str, started: list[int], debiasctl_home: Path
) -> None:
    assert message in error_of(*TRAIN, *arguments, *mode, code=2)
    assert started == []
    assert list(debiasctl_home.iterdir()) == []


def test_what_can_be_is_started(started: list[int]) -> None:
    succeed(*TRAIN, "--processes", "2", "--accumulation", "4", "--set", "compute.sharding=fsdp")
    assert started == [2]


@pytest.mark.parametrize("resumed", [None, "run"])
@pytest.mark.parametrize(
    ("batch_size", "parts", "processes", "allowed"),
    [(8, 8, 1, True), (8, 9, 1, False), (8, 3, 1, True), (8, 4, 2, True), (8, 5, 2, False), (9, 1, 2, False)],
)
def test_a_process_has_an_image_for_each_part(
    batch_size: int, parts: int, processes: int, allowed: bool, resumed: str | None
) -> None:
    spec = make_spec(training__batch_size=batch_size, compute__accumulation=parts)
    if allowed:
        check_sharing(spec, processes, resumed=resumed)
        return
    with pytest.raises(UsageError) as caught:
        check_sharing(spec, processes, resumed=resumed)
    assert any(f"`{name}" in str(caught.value) for name in ("training.batch_size", "compute.accumulation")) == (
        resumed is None
    )


@pytest.mark.parametrize("mode", [[], ["--dry-run"], ["--processes", "2"]])
@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG"])
def test_environment_variables_that_would_change_the_training_are_refused(
    name: str, mode: list[str], started: list[int], monkeypatch: pytest.MonkeyPatch, debiasctl_home: Path
) -> None:
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    message = error_of(*TRAIN, *mode, code=2)
    assert f"the environment variable ACCELERATE_USE_{name} is set" in message
    assert "--set compute.sharding=fsdp" in message
    assert started == []
    assert list(debiasctl_home.iterdir()) == []


def test_such_variables_may_say_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "")
    succeed(*TRAIN, "--steps", "1")


# ---------------------------------------------------------------- runs that cannot go on here


def run_with(compute: dict[str, Any]) -> Run:
    """A run as it would have been begun elsewhere."""
    run = train("run", make_spec())
    path = run.path / "spec.json"
    raw = json.loads(path.read_text())
    raw["compute"] |= compute
    path.write_text(json.dumps(raw))
    return run


@pytest.mark.parametrize("mode", [[], ["--processes", "2"]])
@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_run_of_a_gpus_precision_says_how_it_can_go_on(precision: str, mode: list[str], started: list[int]) -> None:
    run_with({"precision": precision})
    message = error_of("train", "--resume", "run", "--steps", "9", "--device", "cpu", *mode, code=2)
    assert f"run 'run' is trained in {precision}, which needs a CUDA GPU" in message
    assert "--device cuda" in message
    assert "choose fp32, bf16" not in message
    assert started == []
    advice = message.partition("start a new run from its weights: ")[2].split()
    succeed(*TRAIN, "--steps", "1", "--name", "new", *advice)
    assert run_names() == ["new", "run"]


def test_a_sharded_run_in_one_process_says_how_it_can_go_on(started: list[int]) -> None:
    run_with({"sharding": "fsdp"})
    message = error_of("train", "--resume", "run", "--steps", "9", "--device", "cpu", code=2)
    assert "Start several: --processes N" in message
    advice = message.partition("start a new run from its weights: ")[2].split()
    succeed(*TRAIN, "--steps", "1", "--name", "new", *advice)
    succeed("train", "--resume", "run", "--steps", "9", "--device", "cpu", "--processes", "2")
    assert started == [2]


# ---------------------------------------------------------------- SIGTERM before torchrun handles it


@pytest.mark.parametrize("moment", ["debiasctl.compute.device.check_trackers", "debiasctl.specs.resolve.resolve_spec"])
def test_sigterm_before_processes_start_is_told(
    moment: str, started: list[int], monkeypatch: pytest.MonkeyPatch, debiasctl_home: Path
) -> None:

    def unhandled(number: int, frame: Any) -> None:
        raise AssertionError("it would have ended silently")

    system = signal.signal(signal.SIGTERM, unhandled)
    monkeypatch.setattr(moment, lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    monkeypatch.setattr(os, "_exit", sys.exit)
    try:
        outcome = debiasctl(*TRAIN, "--processes", "2")
    finally:
        after = signal.signal(signal.SIGTERM, system)
    assert after == unhandled
    assert outcome.code == 143
    assert outcome.err == "error: stopped by SIGTERM before training began; nothing was written\n"
    assert started == []
    assert list(debiasctl_home.iterdir()) == []


def test_sigterm_while_processes_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.elastic.multiprocessing import SignalException

    def elastic_launch(config: Any, entry: str) -> Any:
        raise SignalException("stopped", sigval=signal.SIGTERM)

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", elastic_launch)
    outcome = debiasctl(*TRAIN, "--processes", "2")
    assert (outcome.code, outcome.err) == (143, "stopped by SIGTERM\n")
