import resource
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import digits, error_of, make_spec, resume, same_state, stored_state, train

from debiasctl.data.content import content_section
from debiasctl.errors import CheckpointError, DebiasctlError, TrainingError, UsageError
from debiasctl.models.build import build_network
from debiasctl.models.checkpoint_files import verify
from debiasctl.runs.pins import choose_step
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run, find_run, read_metrics
from debiasctl.training import checkpoints


def untrained_run(name: str = "run") -> Run:
    """A run that was killed before its first checkpoint."""
    spec = make_spec().model_copy(update={"content": content_section(digits())})
    return create_run(name, spec, status=new_status(num_steps=6, dataset="digits", weighting="x", seed=0))


def test_the_first_checkpoint_holds_the_untrained_network() -> None:
    run = train("run", make_spec(training__keep_steps=[0], training__seed=3))
    stored = load_file(run.checkpoint_path(0) / "model.safetensors")
    fresh = build_network(run.spec(), image_size=8, channels=1, num_classes=10).state_dict()
    assert stored.keys() == fresh.keys()
    assert all(torch.equal(stored[name], fresh[name]) for name in fresh)
    assert stored_state(run, 0)["state/step"] == 0
    assert not same_state(stored, load_file(run.checkpoint_path(6) / "model.safetensors"))


def test_it_is_written_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(training, step):
        raise TrainingError("no first step")

    monkeypatch.setattr("debiasctl.training.loop.train_step", fail)
    with pytest.raises(TrainingError):
        train("run", make_spec())
    assert find_run("run").checkpoint_steps() == [0]
    monkeypatch.undo()


@pytest.mark.parametrize(
    "settings, kept",
    [
        ({}, [8, 9]),
        ({"keep_last": 1}, [9]),
        ({"keep_last": 3}, [6, 8, 9]),
        ({"keep_last": 1, "keep_steps": [0, 4, 5]}, [0, 4, 5, 9]),  # 5 would not be due
        ({"checkpoint_every": 100}, [0, 9]),
    ],
)
def test_which_checkpoints_are_kept(settings: dict, kept: list[int]) -> None:
    changes = {f"training__{key}": value for key, value in settings.items()}
    run = train("run", make_spec(**{"training__steps": 9, "training__checkpoint_every": 2} | changes))
    assert run.checkpoint_steps() == kept
    assert sorted(int(path.name) for path in (run.path / "checkpoints").iterdir()) == kept


def test_a_missing_file_is_damage_and_a_missing_manifest_is_no_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    run = train("run", make_spec())
    (run.checkpoint_path(6) / "ema.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"checkpoint 6 of run 'run' is damaged \(FileNotFoundError"):
        verify(run.checkpoint_path(6), run)
    (run.checkpoint_path(6) / "manifest.json").unlink()
    assert run.checkpoint_steps() == [3]
    run.update_status(state="interrupted")
    assert resume(run, steps=9) == [4, 5, 6, 7, 8, 9]
    assert run.checkpoint_steps() == [6, 9]  # and 6 is whole again
    assert stored_state(run, 6)["state/step"] == 6
    assert [record.step for record in read_metrics(run) if record.kind == "train"] == list(range(1, 10))


def test_which_checkpoint_is_meant() -> None:
    run = train("run", make_spec())
    assert [choose_step(run, text) for text in (None, "last", "3", "6")] == [6, 6, 3, 6]
    for text in ("4", "-1", "first", "3.0"):
        with pytest.raises(UsageError, match=rf"no checkpoint '{text}'. It has: 3, 6 \(or 'last'\)"):
            choose_step(run, text)


def test_a_run_without_a_checkpoint_can_be_trained_and_not_sampled() -> None:
    run = untrained_run()
    assert "has no checkpoint. Train it first: debiasctl train --resume run" in error_of("sample", "run", code=1)
    assert "has no checkpoint" in error_of("evaluate", "run", "--num", "2", code=1)
    assert resume(run) == [1, 2, 3, 4, 5, 6]


def test_what_is_no_run(tmp_path: Path) -> None:
    assert "is not a run's folder" in error_of("train", "--resume", tmp_path, code=2)
    assert "there is no run 'runn'" in error_of("sample", "runn", code=2)


# ---------------------------------------------------------------- a full disk


@contextmanager
def files_of_at_most(size: int):
    """The system refuses to let a file grow beyond `size` bytes: what a full disk does to one, without filling one."""
    # of its signal, SIGXFSZ, Python takes no notice
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [20_000, 60_000])  # the weights, of 40 kB, and the optimizer's state, of 80 kB
def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = checkpoints.write_checkpoint

    def write_on_a_full_disk(run, state):
        with files_of_at_most(size) if state.step == 6 else nullcontext():
            return write(run, state)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_checkpoint", write_on_a_full_disk)
        with pytest.raises(DebiasctlError, match=r"cannot write .*: the disk is full. Free some space") as caught:
            train("run", make_spec())
    assert caught.value.exit_code == 1
    run = find_run("run")
    assert (run.status().state, run.checkpoint_steps()) == ("failed", [0, 3])
    assert "the disk is full" in (run.status().message or "")
    assert [path.name for path in (run.path / "checkpoints").iterdir() if path.name.startswith(".")] == []
    assert resume(run) == [4, 5, 6]
    assert same_state(stored_state(run, 6), stored_state(train("whole", make_spec()), 6))
