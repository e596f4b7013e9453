"""Runs that are stopped, in every way there is, end as if they had not been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from tiny import assert_same_end, debiasctl, error_of, make_spec, resume, same_state, stored_state, train, wait_for_step

from debiasctl.api import DataLocation
from debiasctl.errors import DataError, Interrupted, RunBusyError, UsageError
from debiasctl.models.checkpoint_files import CheckpointState
from debiasctl.runs.store import Run, find_run, read_metrics
from debiasctl.specs.resolve import resolve_spec
from debiasctl.training import checkpoints
from debiasctl.training.conduct import Conduct
from debiasctl.training.session import start

DROPOUT = "dit:hidden_size=16,depth=1,num_heads=2,dropout=0.3"  # draws from torch's own generator
LONG = {"model__backbone": DROPOUT, "data__horizontal_flip": True, "training__steps": 120,
        "training__checkpoint_every": 10, "training__heldout_every": 25}  # fmt: skip


def stop_at(step: int, number: int = signal.SIGTERM):
    return lambda progress: os.kill(os.getpid(), number) if progress.step == step else None


def test_same_spec_same_bits_whatever_torchs_generator_was_at() -> None:
    spec = make_spec(model__backbone=DROPOUT, training__seed=3)
    torch.manual_seed(1)
    first = train("first", spec)
    torch.manual_seed(2)
    second = train("second", spec)
    assert_same_end(first, second)
    other = train("other", make_spec(model__backbone=DROPOUT, training__seed=4))
    one, two = stored_state(first, 6), stored_state(other, 6)
    assert not any(torch.equal(one[name], two[name]) for name in one if name.startswith(("raw", "ema")))


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [1, 5])
def test_a_signal_leaves_a_checkpoint_and_resuming_ends_the_same(number: int, code: int, step: int) -> None:
    spec = make_spec(training__steps=8, training__log_every=3, model__backbone=DROPOUT)  # 5: amid a logged mean
    whole = train("whole", spec)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(
        Interrupted, match=rf"stopped at step {step} of 8 by {number.name}.*debiasctl train --resume stopped"
    ) as caught:
        train("stopped", spec, stop_at(step, number))
    assert caught.value.exit_code == code
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    run = find_run("stopped")
    assert (run.status().state, run.status().step, run.checkpoint_steps()[-1]) == ("interrupted", step, step)
    assert resume(run) == list(range(step + 1, 9))
    assert_same_end(run, whole)


@pytest.mark.parametrize("fails", [False, True])
def test_processes_that_stop_leave_together_once_the_checkpoint_is_written(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that left before would have torchrun end the others, and with them the write."""
    write, seen = checkpoints.write_checkpoint, []

    def write_slowly(run: Run, state: CheckpointState) -> None:
        time.sleep(0.2)
        if fails and state.step:
            seen.append("failed")
            raise DataError("no room")
        write(run, state)

    monkeypatch.setattr(checkpoints, "write_checkpoint", write_slowly)
    monkeypatch.setattr(Accelerator, "wait_for_everyone", lambda _: seen.append(find_run("run").checkpoint_steps()))
    with pytest.raises(DataError if fails else Interrupted):
        train("run", make_spec(), stop_at(2))
    assert seen[-2 if fails else -1 :] == (["failed", [0]] if fails else [[0, 2]])


def test_a_signal_in_the_last_step_does_not_undo_that_the_run_is_finished() -> None:
    assert train("run", make_spec(), stop_at(6)).status().state == "finished"


def interrupt_twice(progress) -> None:
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # lets Python call its handler


def test_a_second_signal_acts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("debiasctl.compute.signals.SAME_SIGNAL_SECONDS", -1)
    with pytest.raises(Interrupted, match=r"stopped at once by a second signal \(SIGINT\), after step 1 of 6"):
        train("run", make_spec(), interrupt_twice)
    assert find_run("run").status().state == "interrupted"


def test_one_ctrl_c_that_comes_twice_is_one() -> None:
    with pytest.raises(Interrupted, match="stopped at step 1 of 6 by SIGINT; a checkpoint was written"):
        train("run", make_spec(), interrupt_twice)
    assert find_run("run").checkpoint_steps() == [0, 1]


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_command_line_ends_with_the_signals_code(
    number: int, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(make_spec().model_dump(mode="json")))
    stop = stop_at(2, number)
    monkeypatch.setattr("debiasctl.cli.progress._Lines.training", lambda _, progress: stop(progress))
    outcome = debiasctl("train", "--spec", file, "--name", "run")
    assert outcome.code == code
    assert outcome.out == ""
    assert outcome.err.splitlines()[-1].startswith(f"error: stopped at step 2 of 6 by {number.name}; a checkpoint")


def kill_in_the_middle(spec_file: Path, generator: random.Random) -> Run:
    """Start a run in a process of its own and kill that at some moment after its first steps."""
    for attempt in range(5):
        name = f"killed-{attempt}"
        command = [sys.executable, "-m", "debiasctl", "train", "--spec", str(spec_file), "--name", name]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait_for_step(process, name, generator.randint(12, 60))
            time.sleep(generator.uniform(0, 0.03))
            process.kill()
        run = find_run(name)
        if run.status().state != "finished":  # this process may have slept too long
            return run
    raise AssertionError("it was never killed in time")


OBJECTIVES = {  # what has state of its own, or depends on how much of training is done
    "learned weighting": {"loss__weighting": "uncertainty"},
    "learned over a moving base": {"loss__weighting": "uncertainty:base='interpolate:p=0,p_end=1'"},
    "moving weighting": {"loss__weighting": "interpolate:p=0,p_end=1,until=0.8", "loss__timesteps": "importance"},
    "losses seen": {
        "loss__timesteps": "loss-second-moment:history=1", "diffusion__schedule": "cosine:num_timesteps=12",
    },
    "a number shared by the batch": {"loss__timesteps": "stratified"},
    "edm": {
        "loss__weighting": "edm", "loss__timesteps": "lognormal", "diffusion__schedule": "edm",
        "model__prediction": "edm",
    },
    "learned variance": {"model__learned_variance": True, "diffusion__schedule": "cosine"},
}  # fmt: skip


@pytest.mark.parametrize("what", OBJECTIVES)
def test_every_objective_goes_on_from_where_it_was(what: str) -> None:
    spec = make_spec(**OBJECTIVES[what], training__steps=16, training__checkpoint_every=5, training__batch_size=16)
    whole = train("whole", spec)
    with pytest.raises(Interrupted):
        train("run", spec, stop_at(8))
    run = find_run("run")
    if what == "losses seen":  # and so another q than the base's, before and after
        seen = stored_state(run, 8)["state/timesteps/counts"]
        assert bool((seen > 0).all())
        assert not torch.equal(seen, stored_state(whole, 16)["state/timesteps/counts"])
    if "learned" in what and "variance" not in what:
        weight = [stored_state(run, step)["state/weighting/module/weight"] for step in (5, 8)]
        assert float(weight[0].abs().min()) > 0
        assert not torch.equal(weight[0], weight[1])
    assert resume(run) == list(range(9, 17))
    assert_same_end(run, whole)


@pytest.mark.parametrize(
    ("weighting", "noted"),
    [("interpolate:p=0,p_end=1", True), ("uncertainty:base='interpolate:p=0,p_end=1'", True), ("interpolate", False)],
)
def test_a_larger_budget_moves_a_weighting_that_follows_it(
    weighting: str, noted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    run = train("run", make_spec(loss__weighting=weighting, optimizer__decay="none"))
    assert resume(run, steps=8) == [7, 8]
    said = "the weighting changes towards the last step; the new number of steps changes its course"
    assert (said in caplog.text) == noted
    long = train("long", make_spec(loss__weighting=weighting, optimizer__decay="none", training__steps=8))
    assert same_state(stored_state(run, 8), stored_state(long, 8)) != noted


STATEFUL = {**LONG, "loss__weighting": "uncertainty:base='interpolate:p=0.2,p_end=0.8'",
            "loss__timesteps": "loss-second-moment:history=2", "diffusion__schedule": "cosine:num_timesteps=30",
            "model__learned_variance": True}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(3))
def test_a_killed_run_of_much_state_equals_one_that_never_stopped(trial: int, tmp_path: Path) -> None:
    """Beyond what tests/training/test_durability.py kills."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    spec = make_spec(**STATEFUL)
    spec_file = tmp_path / "spec.json"
    spec_file.write_text(json.dumps(spec.model_dump(mode="json")))
    run = kill_in_the_middle(spec_file, random.Random(seed))
    assert run.status().state == "interrupted"
    last = run.checkpoint_steps()[-1]
    assert last >= 10
    outcome = debiasctl("train", "--resume", run.name)
    assert outcome.code == 0, outcome.err
    assert f"from step {last} to step 120" in outcome.err
    assert [record.step for record in read_metrics(run) if record.kind == "train"] == list(range(1, 121))
    assert_same_end(run, train("whole", spec))


# ---------------------------------------------------------------- what cannot be resumed


def test_a_finished_run_needs_a_larger_budget_and_equals_one_of_that_budget() -> None:
    short = make_spec(optimizer__decay="none")
    run = train("run", short)
    assert "there is nothing to do for 6 steps" in error_of("train", "--resume", "run", code=2)
    assert "larger budget, for example: debiasctl train --resume run --steps 12" in error_of(
        "train", "--resume", "run", "--steps", "6", code=2
    )
    assert "nothing to do for 4 steps" in error_of("train", "--resume", "run", "--steps", "4", code=2)
    assert run.status().state == "finished"
    assert resume(run, steps=9) == [7, 8, 9]
    assert run.spec().training.steps == 9
    assert (run.status().step, run.status().num_steps) == (9, 9)
    long = train("long", make_spec(optimizer__decay="none", training__steps=9))
    assert same_state(stored_state(run, 9), stored_state(long, 9))


def test_a_budget_is_not_lowered() -> None:
    with pytest.raises(Interrupted):
        train("run", make_spec(), stop_at(2))
    with pytest.raises(UsageError, match="which cannot be lowered to 4"):
        resume(find_run("run"), steps=4)
    assert find_run("run").spec().training.steps == 6


def test_images_are_a_budget_too() -> None:
    train("run", make_spec())
    outcome = debiasctl("train", "--resume", "run", "--images", "70")  # 8 a step: the 9th reaches them
    assert outcome.code == 0, outcome.err
    assert find_run("run").status().step == 9


def test_a_run_killed_after_its_last_checkpoint_can_be_finished() -> None:
    run = train("run", make_spec())
    run.update_status(state="training")
    assert run.status().state == "interrupted"
    assert resume(run) == []
    assert run.status().state == "finished"


def test_one_process_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("debiasctl.runs.lock._GRACE_SECONDS", 0.05)
    run = train("run", make_spec())
    with run.lock():
        message = error_of("train", "--resume", "run", "--steps", "9", code=1)
        with pytest.raises(RunBusyError):
            resume(run, steps=9)
    assert "run 'run' is being trained by another process" in message
    assert run.spec().training.steps == 6


def test_other_images_than_before_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        Image.new("L", (8, 8), 20 * number).save(folder / f"{number}.png")
    location = DataLocation(data_dir=None, cache_dir=tmp_path / "cache")
    settings = make_spec().model_dump(mode="json", exclude={"data": True, "content": True})
    settings |= {"data": {"dataset": {"name": "folder", "options": {"path": str(folder)}}}}
    settings["model"]["conditional"] = False
    spec, _ = resolve_spec([settings], location)
    run = start(spec, location, name="run", conduct=Conduct(device="cpu"))
    Image.new("L", (8, 8), 255).save(folder / "3.png")
    with pytest.raises(DataError, match=r"images of data set 'folder' are not those that this spec was made for"):
        resume(run, steps=9, location=location)
    assert run.spec().training.steps == 6
