"""How a training ends that another process, or a signal before its first step, brings down."""

import os
import signal
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tiny import LOCATION, assert_same_end, make_spec, resume, train

from debiasctl.cli.messages import with_options
from debiasctl.compute.signals import StopSignals
from debiasctl.errors import Interrupted, TrainingError
from debiasctl.models.checkpoint_files import remove_leftovers
from debiasctl.runs.store import find_run
from debiasctl.training import session
from debiasctl.training.conduct import Conduct

GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4711"
NCCL = "ncclRemoteError: A call failed possibly due to a network error or a remote process exited prematurely."
OTHER = "another process of this training ended; its message says why"


# ---------------------------------------------------------------- another process


def fail_after_a_step(monkeypatch: pytest.MonkeyPatch, error: Exception, *, processes: int) -> None:
    """Train a run whose second step fails, as one of so many processes."""

    def fail(training, step) -> None:
        raise error

    def on_progress(progress) -> None:
        monkeypatch.setattr(Accelerator, "num_processes", processes)
        monkeypatch.setattr("debiasctl.training.loop.train_step", fail)

    train("run", make_spec(), on_progress)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(GLOO),
        RuntimeError("Connection reset by peer"),
        torch.distributed.DistBackendError(NCCL),
        torch.distributed.DistNetworkError("failed to recv: Connection reset by peer"),
    ],
)
def test_a_process_that_lost_another_says_just_that(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrainingError) as caught:
        fail_after_a_step(monkeypatch, error, processes=2)
    assert (str(caught.value), caught.value.__cause__) == (OTHER, error)
    status = find_run("run").status()
    assert (status.state, status.step, status.message) == ("failed", 1, OTHER)


@pytest.mark.parametrize(
    "error, processes",
    [
        (RuntimeError(GLOO), 1),
        (RuntimeError("shapes differ"), 2),
        (ValueError("Connection reset by peer"), 2),
        (torch.distributed.DistBackendError("Duplicate GPU detected"), 2),
        (TrainingError("the loss is not finite"), 2),
    ],
)
def test_the_process_with_the_cause_tells_it(error: Exception, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)) as caught:
        fail_after_a_step(monkeypatch, error, processes=processes)
    assert caught.value is error
    assert find_run("run").status().message == str(error)


# ---------------------------------------------------------------- a signal before the first step


@pytest.mark.parametrize("moment", ["create_run", "_start_trackers", "fit"])
def test_a_signal_between_a_runs_creation_and_its_first_step_is_told(
    moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unhandled(number: int, frame) -> None:
        raise AssertionError("it would have ended silently")

    whole, original = train("whole", make_spec()), getattr(session, moment)

    def interrupted(*args, **settings):
        result = original(*args, **settings) if moment == "create_run" else None
        os.kill(os.getpid(), signal.SIGTERM)
        return result or original(*args, **settings)

    monkeypatch.setattr(session, moment, interrupted)
    before = signal.signal(signal.SIGTERM, unhandled)
    try:
        with pytest.raises(Interrupted) as caught:
            train("run", make_spec())
    finally:
        after = signal.signal(signal.SIGTERM, before)
    assert after == unhandled
    assert caught.value.exit_code == 143
    assert with_options(str(caught.value)).endswith(
        "by SIGTERM; a checkpoint was written. Resume it: debiasctl train --resume run"
    )
    monkeypatch.setattr(session, moment, original)
    run = find_run("run")
    assert run.status().state == "interrupted"
    resume(run)
    assert_same_end(run, whole)


def test_what_was_there_is_put_back_where_training_ends_and_where_it_never_begins() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as outer:
        with outer as inner:
            assert inner is outer
        assert signal.getsignal(signal.SIGTERM) == before
    assert signal.getsignal(signal.SIGTERM) == before

    def refuse(*_) -> None:
        raise TrainingError("no")

    with pytest.raises(TrainingError, match="no"):
        session.start(make_spec(), LOCATION, name="run", conduct=Conduct(device="cpu", on_start=refuse))
    assert signal.getsignal(signal.SIGTERM) == before


# ---------------------------------------------------------------- what they leave


def test_leftovers_of_any_file_of_the_run_are_removed() -> None:
    run = train("run", make_spec())
    kept = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    (run.path / ".status.json.1.ab.tmp").write_text("{")
    (run.path / "checkpoints" / ".9.1.ab.tmp").mkdir()
    (run.path / "checkpoints" / ".9.1.ab.tmp" / "model.safetensors").write_text("")
    (run.path / "notes.tmp").write_text("somebody's own")
    remove_leftovers(run)
    left: set[Path] = {path for path in run.path.rglob("*") if path.is_file()}
    assert left == {*kept, run.path / "notes.tmp"}
    assert not list(run.path.rglob(".*.tmp"))
