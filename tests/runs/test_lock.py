"""A run's lock against removals of its file and folder, and pins of what is read."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from debiasctl import claims, paths
from debiasctl.errors import CheckpointError, RunBusyError, UsageError
from debiasctl.runs.pins import pin_chosen, pinned, unpinned
from debiasctl.runs.records import TrainRecord
from debiasctl.runs.removal import remove_run
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, append_metrics, create_run
from debiasctl.specs.resolve import validate_spec


@pytest.fixture
def run() -> Run:
    spec = validate_spec({"data": {"dataset": "digits"}})
    made = create_run("a", spec, status=new_status(num_steps=9, dataset="digits", weighting="debiased", seed=0))
    for step in (2, 4):
        add_checkpoint(made, step)
    return made


def add_checkpoint(run: Run, step: int) -> None:
    run.checkpoint_path(step).mkdir(parents=True)
    (run.checkpoint_path(step) / "manifest.json").write_text("{}")


def record(step: int) -> TrainRecord:
    return TrainRecord(step=step, images=8, loss=0.5, grad_norm=None, lr=0.1, images_per_second=2.0)


def test_no_second_trainer_enters_although_the_lock_file_was_deleted(run: Run) -> None:
    with run.lock():
        (run.path / ".lock").unlink()
        assert run.is_training()
        with pytest.raises(RunBusyError, match="is being trained by another process"), run.lock():
            pass
        with pytest.raises(RunBusyError, match="is being trained"):
            remove_run(run)
        append_metrics(run, [record(1)])  # the first one goes on: nobody else can have come in
        (run.path / ".lock").unlink(missing_ok=True)
    with run.lock():
        pass


@pytest.mark.parametrize("write", [lambda run: append_metrics(run, [record(1)]), lambda run: run.update_status(step=3)])
def test_where_folders_cannot_be_locked_the_trainer_stops_at_its_next_write(
    run: Run, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("debiasctl.runs.lock.claims.hold", lambda path, **_: None)
    with run.lock():
        write(run)
        (run.path / ".lock").unlink()
        (run.path / ".lock").touch()  # by a second trainer
        with pytest.raises(RunBusyError, match=r"its lock file \.lock was removed.*train --resume a"):
            write(run)


def test_a_trainer_whose_folder_was_replaced_writes_nothing_into_the_new_one(run: Run) -> None:
    with run.lock():
        run.path.rename(run.path.with_name("moved"))
        run.path.mkdir()
        with pytest.raises(RunBusyError, match="its folder was moved, removed or replaced"):
            append_metrics(run, [record(1)])
        assert list(run.path.iterdir()) == []


# ---------------------------------------------------------------- pins


def test_a_pinned_checkpoint_can_be_read_by_many_and_removed_by_none(run: Run) -> None:
    with pinned(run, 2), pinned(run, 2):
        with unpinned(run.checkpoint_path(2)) as free:
            assert not free
        with unpinned(run.checkpoint_path(4)) as free:
            assert free
        with pytest.raises(RunBusyError, match="is being read by another process"):
            remove_run(run)
        assert run.checkpoint_steps() == [2, 4]
    remove_run(run)
    assert list(paths.runs_dir().iterdir()) == []


def test_the_last_checkpoint_is_chosen_again_if_it_goes_before_it_is_pinned(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = claims.hold

    def prune_first(path: Path, **options: bool) -> int | None:
        if "00000004" in str(path) and path.exists():  # as if training had pruned it meanwhile, and written another
            os.replace(run.checkpoint_path(4), run.checkpoint_path(8))
        return hold(path, **options)

    monkeypatch.setattr("debiasctl.runs.pins.claims.hold", prune_first)
    with ExitStack() as pins:
        assert pin_chosen(run, None, pins) == 8
        with pytest.raises(UsageError, match=r"has no checkpoint '4'\. It has: 2, 8"):
            pin_chosen(run, "4", pins)


def test_a_checkpoint_that_is_gone_is_not_called_damaged(run: Run) -> None:
    with pytest.raises(CheckpointError, match="checkpoint 6 of run 'a' was removed a moment ago"), pinned(run, 6):
        pass


def test_a_pin_changes_nothing(run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    with pinned(run, 2):
        assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*")} == before
