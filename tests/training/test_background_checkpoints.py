"""Checkpoints are written while training goes on, hold the moment at which they were asked for, and fail aloud."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sharded_process
import torch
from safetensors.torch import load_file
from tiny import make_spec, same_state, save_checkpoint, set_up_tiny, stored_state, train

from debiasctl.errors import CheckpointError, DebiasctlError, Interrupted, TrainingError
from debiasctl.models.checkpoint_files import prune_checkpoints, verify, write_checkpoint
from debiasctl.runs import manifest
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run, find_run
from debiasctl.training import checkpoints
from debiasctl.training.checkpoints import CheckpointWriter, load_last
from debiasctl.training.state import HostMemory, capture, restore
from debiasctl.training.step import train_step
from debiasctl.training.training import Training

SUMS = {"loss": 1.5, "num": 3}


@pytest.fixture
def run() -> Run:
    return create_run("run", make_spec(), status=new_status(num_steps=6, dataset="digits", weighting="x", seed=0))


@pytest.fixture
def training() -> Training:
    training = set_up_tiny(make_spec())
    train_step(training, 0)  # the optimizer has state
    return training


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Writing waits until the gate is set."""
    gate = threading.Event()

    def write(run, state):
        assert gate.wait(60)
        return write_checkpoint(run, state)

    monkeypatch.setattr(checkpoints, "write_checkpoint", write)
    yield gate
    gate.set()


def writer_of(run: Run, **settings: Any) -> CheckpointWriter:
    return CheckpointWriter(run, make_spec(**{f"training__{key}": value for key, value in settings.items()}).training)


def sync_state(name: str, training: Training, *, step: int) -> dict[str, Any]:
    """What a checkpoint written at once holds."""
    run = create_run(name, make_spec(), status=new_status(num_steps=6, dataset="digits", weighting="x", seed=0))
    save_checkpoint(run, training, step=step, progress=SUMS)
    return stored_state(run, step)


def test_training_goes_on_while_the_moment_of_the_call_is_written(
    run: Run, training: Training, gate: threading.Event
) -> None:
    with writer_of(run) as writer:
        gate.set()
        expected = sync_state("now", training, step=1)
        gate.clear()
        writer.save(training, step=1, progress=SUMS)
        assert run.checkpoint_steps() == []
        writer.check()  # does not wait
        train_step(training, 1)  # nor does this, and it changes all that is saved
        gate.set()
        writer.wait()
        assert run.checkpoint_steps() == [1]
    assert same_state(stored_state(run, 1), expected)
    assert stored_state(run, 1)["state/progress/loss"] == 1.5


def test_one_write_at_a_time(run: Run, training: Training, gate: threading.Event) -> None:
    gate.set()
    expected = sync_state("first", training, step=1)
    gate.clear()
    with writer_of(run) as writer:
        writer.save(training, step=1, progress=SUMS)
        train_step(training, 1)
        threading.Timer(0.3, gate.set).start()
        writer.save(training, step=2, progress=SUMS)  # would fill the memory that the first is written from
        assert run.checkpoint_steps() == [1]
        assert same_state(stored_state(run, 1), expected)
        gate.set()
        writer.wait()
        expected = sync_state("second", training, step=2)
    assert same_state(stored_state(run, 2), expected)


def test_a_step_is_saved_once(run: Run, training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    monkeypatch.setattr(checkpoints, "write_checkpoint", lambda run, state: written.append(state.step))
    with writer_of(run) as writer:
        for step in (1, 1, 2, 2):
            writer.save(training, step=step, progress=SUMS)
    assert written == [1, 2]


def test_checksums_are_made_on_the_way_out_and_nothing_is_read_back(
    run: Run, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(manifest, "sha256_file", refuse)
    save_checkpoint(run, training, step=1, progress=SUMS)
    stated = json.loads((run.checkpoint_path(1) / "manifest.json").read_text())
    assert stated["step"] == 1
    assert stated["sha256"] == {
        name: hashlib.sha256((run.checkpoint_path(1) / name).read_bytes()).hexdigest()
        for name in ("model.safetensors", "ema.safetensors", "state.pt")
    }


def test_a_resume_hashes_each_file_once(run: Run, training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        save_checkpoint(run, training, step=step, progress=SUMS)
    hashed: list[Path] = []
    real = manifest.sha256_file
    monkeypatch.setattr(manifest, "sha256_file", lambda path: (hashed.append(path), real(path))[1])
    assert load_last(run, training) == (2, SUMS)
    assert sorted(hashed) == sorted(p for p in run.checkpoint_path(2).iterdir() if p.name != "manifest.json")


# ---------------------------------------------------------------- what goes wrong in the background


def fail(run, state):
    raise DebiasctlError("the disk is full")


def waits_for(writer: CheckpointWriter) -> None:
    while not writer._pending.done():
        time.sleep(0.001)
    writer.check()


@pytest.mark.parametrize(
    "call",
    [
        CheckpointWriter.wait,
        waits_for,
        lambda writer: writer.save(None, step=9, progress={}),
        lambda writer: writer.__exit__(None, None, None),
    ],
    ids=["wait", "check", "save", "exit"],
)
def test_a_failed_write_is_raised_by_the_next_call_and_once(
    call: Callable, run: Run, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(run, training, step=1, progress=SUMS)
    monkeypatch.setattr(checkpoints, "write_checkpoint", fail)
    writer = writer_of(run, keep_last=1)
    writer.save(training, step=2, progress=SUMS)
    with pytest.raises(DebiasctlError, match=r"^the disk is full$"):
        call(writer)
    writer.__exit__(None, None, None)
    assert run.checkpoint_steps() == [1]
    verify(run.checkpoint_path(1), run)


def test_what_ends_training_comes_before_what_failed_in_the_background(
    run: Run, training: Training, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoints, "write_checkpoint", fail)

    def stop() -> None:
        with writer_of(run) as writer:
            writer.save(training, step=1, progress=SUMS)
            raise TrainingError("the loss is not finite")

    with pytest.raises(TrainingError, match="not finite"):
        stop()
    assert "the disk is full" in caplog.text


def test_whatever_ends_training_waits_for_the_write(run: Run, training: Training, gate: threading.Event) -> None:
    def stop() -> None:
        with writer_of(run) as writer:
            writer.save(training, step=1, progress=SUMS)
            threading.Timer(0.2, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert run.checkpoint_steps() == [1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]


def test_an_interrupted_wait_leaves_the_write_to_be_waited_for(
    run: Run, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(checkpoints, "write_checkpoint", lambda run, state: gate.wait(60) and fail(run, state))
    writer = writer_of(run)
    writer.save(training, step=1, progress=SUMS)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        writer.wait()
    gate.set()
    with pytest.raises(DebiasctlError, match="the disk is full"):
        writer.__exit__(None, None, None)


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run's status says, each time with the last checkpoint that there is at that moment."""
    states: list[str] = []

    def update(run: Run, **changes: Any) -> Any:
        states.append(f"{changes['state']} {run.checkpoint_steps()[-1:]}")
        return real(run, **changes)

    real = Run.update_status
    monkeypatch.setattr(Run, "update_status", update)
    return states


def test_a_signal_amid_a_slow_write_loses_nothing(states: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(run, state):
        time.sleep(0.2)
        return write_checkpoint(run, state)

    monkeypatch.setattr(checkpoints, "write_checkpoint", slowly)

    def look(progress) -> None:
        if progress.step == 4:  # that of step 3 is being written
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train("run", make_spec(), look)
    assert find_run("run").checkpoint_steps() == [3, 4]
    assert states[-1] == "interrupted [4]"  # said when it is so


def test_a_finished_run_has_its_last_checkpoint(states: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(run, state):
        time.sleep(0.1)
        return write_checkpoint(run, state)

    monkeypatch.setattr(checkpoints, "write_checkpoint", slowly)
    run = train("run", make_spec())
    assert run.checkpoint_steps() == [3, 6]
    assert states[-1] == "finished [6]"


def test_a_write_that_failed_stops_training_at_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(run, state):
        return write_checkpoint(run, state) if state.step == 0 else fail(run, state)

    steps: list[int] = []

    def look(progress) -> None:
        steps.append(progress.step)
        time.sleep(0.2 if progress.step == 2 else 0)  # the write of step 2 has ended

    monkeypatch.setattr(checkpoints, "write_checkpoint", write)
    with pytest.raises(DebiasctlError, match="the disk is full"):
        train("run", make_spec(training__steps=100, training__checkpoint_every=2), look)
    assert steps == [1, 2]


# ---------------------------------------------------------------- which are kept


def test_an_old_checkpoint_goes_when_the_new_one_is_whole(run: Run, training: Training, gate: threading.Event) -> None:
    with writer_of(run, keep_last=1) as writer:
        gate.set()
        writer.save(training, step=1, progress=SUMS)
        writer.wait()
        gate.clear()
        writer.save(training, step=2, progress=SUMS)
        assert run.checkpoint_steps() == [1]
        gate.set()
        writer.wait()
        assert run.checkpoint_steps() == [2]


def test_damaged_checkpoints_ahead_do_not_take_the_place_of_whole_ones(run: Run, training: Training) -> None:
    for step in (1, 2, 6):
        save_checkpoint(run, training, step=step, progress=SUMS)
    prune_checkpoints(run, make_spec(training__keep_last=1).training, newest=2)
    assert run.checkpoint_steps() == [2, 6]


def test_a_whole_checkpoint_is_kept_and_a_damaged_one_replaced(run: Run, training: Training) -> None:
    save_checkpoint(run, training, step=1, progress=SUMS)
    file = run.checkpoint_path(1) / "state.pt"
    before, inode = file.read_bytes(), file.stat().st_ino
    save_checkpoint(run, training, step=1, progress=SUMS)
    assert file.stat().st_ino == inode
    file.write_bytes(before[:-1])
    save_checkpoint(run, training, step=1, progress=SUMS)
    assert file.read_bytes() == before
    verify(run.checkpoint_path(1), run)
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["00000001"]


def test_damage_is_told_of_and_the_checkpoint_before_taken(
    run: Run, training: Training, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        save_checkpoint(run, training, step=step, progress={"loss": step})
    for step, name in ((3, "state.pt"), (2, "model.safetensors")):
        (run.checkpoint_path(step) / name).write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        assert load_last(run, training) == (1, {"loss": 1})
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in told] == [
        "checkpoint 3 of run 'run' is damaged (state.pt differs from its checksum)",
        "checkpoint 2 of run 'run' is damaged (model.safetensors differs from its checksum)",
    ]
    assert all("Resuming from checkpoint 1, and writing it again" in text for text in told)
    assert run.checkpoint_steps() == [1, 2, 3]  # nothing is deleted
    (run.checkpoint_path(1) / "manifest.json").write_text("[]")
    with pytest.raises(CheckpointError) as caught:
        load_last(run, training)
    lines = str(caught.value).splitlines()
    assert [line.partition(" of run")[0] for line in lines[:3]] == ["checkpoint 3", "checkpoint 2", "checkpoint 1"]
    assert "No checkpoint of run 'run' is whole" in lines[3]


def test_a_checkpoint_that_is_whole_and_does_not_fit_is_not_passed_over(run: Run, training: Training) -> None:
    for step in (1, 2):
        save_checkpoint(run, training, step=step, progress=SUMS)
    other = set_up_tiny(make_spec(model__backbone="dit:hidden_size=32,depth=1,num_heads=2"))
    with pytest.raises(CheckpointError, match="checkpoint 2 of run 'run' does not fit its spec"):
        load_last(run, other)


def test_a_manifest_of_another_step_is_damage(run: Run, training: Training) -> None:
    save_checkpoint(run, training, step=1, progress=SUMS)
    os.replace(run.checkpoint_path(1), run.checkpoint_path(2))
    with pytest.raises(CheckpointError, match=r"manifest\.json states step 1"):
        verify(run.checkpoint_path(2), run)


# ---------------------------------------------------------------- what is in them


def test_further_averages_are_files_of_their_own(run: Run) -> None:
    spec = make_spec(ema__kind="power", ema__lengths=[0.05, 0.1, 0.125])
    training = set_up_tiny(spec)
    for step in range(3):
        train_step(training, step)
    save_checkpoint(run, training, step=3, progress=SUMS)
    names = {"model.safetensors", "ema.safetensors", "ema-0.1.safetensors", "ema-0.125.safetensors", "state.pt"}
    assert verify(run.checkpoint_path(3), run).keys() == names
    expected = training.ema.averages["0.1"].state_dict()
    assert same_state(load_file(run.checkpoint_path(3) / "ema-0.1.safetensors"), expected)
    assert not same_state(training.ema.averages["0.125"].state_dict(), expected)
    fresh = set_up_tiny(spec)
    assert load_last(run, fresh) == (3, SUMS)
    assert same_state(fresh.ema.averages["0.1"].state_dict(), expected)
    with pytest.raises(CheckpointError, match=r"checkpoint 3 of run 'run' does not fit its spec: the averages are of"):
        load_last(run, set_up_tiny(make_spec()))


@pytest.mark.parametrize(
    "name", ["ema-../x.safetensors", "ema-.safetensors", "ema-0.1/.safetensors", "EMA-0.1.safetensors", "ema-0.1.pt"]
)
def test_a_manifest_names_no_other_files(name: str, run: Run, training: Training) -> None:
    save_checkpoint(run, training, step=1, progress=SUMS)
    file = run.checkpoint_path(1) / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["sha256"][name] = "0" * 64
    file.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=r"manifest\.json does not name the files of a checkpoint"):
        verify(run.checkpoint_path(1), run)


def test_a_checkpoint_of_before_there_was_more_loads(run: Run, training: Training) -> None:
    """As the first version wrote it: three files, and no state of a scaler."""
    expected = sync_state("expected", training, step=1)
    save_checkpoint(run, training, step=1, progress=SUMS)
    folder = run.checkpoint_path(1)
    state = torch.load(folder / "state.pt", weights_only=True)
    del state["scaler"]
    torch.save(state, folder / "state.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["state.pt"] = hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    fresh = set_up_tiny(make_spec())
    assert load_last(run, fresh) == (1, SUMS)
    assert same_state(sync_state("again", fresh, step=1), expected)


def test_the_state_of_fp16s_scaling_is_kept(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    scaler.scale(torch.ones(()))  # makes its state
    monkeypatch.setattr(training.accelerator, "scaler", scaler)
    state = capture(training, step=1, progress=SUMS)
    assert state is not None
    scaler.update(2.0)
    assert scaler.get_scale() == 2.0
    restore(training, state)
    assert scaler.get_scale() == 8.0


@pytest.mark.parametrize("stored, resumed", [(True, False), (False, True), (True, True)])
def test_the_optimizers_state_takes_the_layout_of_the_weights(stored: bool, resumed: bool, run: Run) -> None:
    """Fused optimizers go through memory in order: state in another layout would belong to other weights."""

    def make(channels_last: bool) -> Training:
        training = set_up_tiny(make_spec(model__backbone="unet:channels=32,channel_mult=[1],num_res_blocks=1"))
        for network in (training.network, training.ema.network):
            network.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        return training

    def layouts(training: Training) -> list[bool]:
        state = training.optimizer.state
        return [state[p]["exp_avg"].stride() == p.stride() for p in training.network.parameters()]

    training = make(stored)
    for step in range(2):
        train_step(training, step)
    save_checkpoint(run, training, step=2, progress=SUMS)
    again = make(resumed)
    load_last(run, again)
    assert all(layouts(again))
    assert any(p.dim() == 4 and p.stride() != p.contiguous().stride() for p in again.network.parameters()) == resumed
    first = {number: values["exp_avg"] for number, values in training.optimizer.state_dict()["state"].items()}
    second = {number: values["exp_avg"] for number, values in again.optimizer.state_dict()["state"].items()}
    assert same_state(first, second)


def test_memory_is_used_again_and_layouts_are_kept() -> None:
    memory = HostMemory()
    strided = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    shared = {"plugin": {1, 2}}
    state = {"a": [strided, 3], "b": {"c": (torch.arange(3), None)}, **shared}
    first = memory.copy(state)
    assert first["plugin"] is not shared["plugin"]
    assert torch.equal(first["a"][0], strided)
    assert first["a"][0].stride() == strided.stride()
    assert first["a"][0].data_ptr() != strided.data_ptr()
    assert isinstance(first["b"]["c"], tuple)
    pointer = first["a"][0].data_ptr()
    strided.zero_()
    assert first["a"][0].abs().sum() > 0
    second = memory.copy(state)
    assert second["a"][0].data_ptr() == pointer
    assert not second["a"][0].any()
    grown = memory.copy({"a": [torch.ones(7), 3]})
    assert torch.equal(grown["a"][0], torch.ones(7))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_from_a_gpu_the_copy_is_whole_and_pinned() -> None:
    memory, state = HostMemory(), {"a": torch.arange(50_000_000, device="cuda"), "b": torch.ones(3)}
    for _ in range(2):
        state["a"] += 1
        copied = memory.copy(state)
        assert copied["a"].is_pinned()
        assert torch.equal(copied["a"], state["a"].cpu())


# ---------------------------------------------------------------- weights that several processes share out


def test_shared_out_weights_are_gathered_into_the_checkpoint_of_one_process(tmp_path: Path) -> None:
    script = sharded_process.__file__
    processes = [subprocess.Popen([sys.executable, script, str(rank), tmp_path]) for rank in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    found = torch.load(tmp_path / "captured.pt", weights_only=True)
    alone, optimizer = sharded_process.made()
    sharded_process.stepped(alone, optimizer, 3)
    torch.testing.assert_close(found["weights"]["model"], dict(alone.state_dict()))
    torch.testing.assert_close(found["rest"]["optimizer"]["state"], optimizer.state_dict()["state"])
    assert found["rest"]["optimizer"]["param_groups"] == optimizer.state_dict()["param_groups"]
    sharded_process.stepped(alone, optimizer, 2)
    torch.testing.assert_close(torch.load(tmp_path / "resumed.pt", weights_only=True), dict(alone.state_dict()))
