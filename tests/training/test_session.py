"""What a training refuses, notes and cleans up before it goes on, and that nothing outside the spec changes it."""

import json
import os
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from tiny import error_of, make_spec, resume, same_state, stored_state, succeed, train, write_distribution

from debiasctl.errors import CheckpointError, DebiasctlError, TrainingError
from debiasctl.models.checkpoint_files import verify
from debiasctl.runs.store import find_run
from debiasctl.training import loop

SCHEME = """
from debiasctl.api import Weighting


class Scheme(Weighting):
    '''Weight 1.'''

    space = "eps"

    def __call__(self, snr):
        return snr * 0 + 1
"""


def test_accelerates_environment_variables_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    plain = stored_state(train("plain", spec), 6)
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert same_state(stored_state(train("environment", spec), 6), plain)


def test_what_a_kill_left_of_checkpoints_is_removed_on_resume() -> None:
    run = train("run", make_spec())
    cut_short = run.path / "checkpoints" / ".00000007.1.ab.tmp"
    shutil.copytree(run.checkpoint_path(6), cut_short)
    assert resume(run, steps=7) == [7]
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == ["00000006", "00000007"]


def test_a_checkpoint_that_lost_its_manifest_is_noted_and_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("run", make_spec(training__steps=7, training__keep_last=3))
    (run.checkpoint_path(7) / "manifest.json").unlink()
    run.update_status(state="interrupted")
    monkeypatch.setattr(loop, "train_step", stop)
    with pytest.raises(TrainingError):
        resume(run)
    assert "had reached step 7, but its last whole checkpoint is from step 6" in caplog.text
    assert (run.checkpoint_path(7) / "model.safetensors").exists()


def stop(training, step):
    raise TrainingError("stopped")


@pytest.mark.parametrize("name", ["/dev/zero", "../../spec.json", "extra"])
def test_a_manifest_that_names_other_files_is_damage_and_they_are_not_read(name: str) -> None:
    run = train("run", make_spec())
    manifest = run.checkpoint_path(6) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["sha256"][name] = "0" * 64
    manifest.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"manifest\.json does not name the files of a checkpoint"):
        verify(run.checkpoint_path(6), run)


def test_a_plugin_of_another_version_is_noted_and_of_another_distribution_refused(
    tmp_path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = {"debiasctl.weightings": {"scheme": "the_scheme:Scheme"}}
    sites = [tmp_path / folder for folder in ("first", "newer", "other")]
    packages = [("one", "1.0"), ("one", "2.0"), ("two", "1.0")]
    for site, (name, version) in zip(sites, packages, strict=True):
        write_distribution(site, name=name, version=version, entry_points=points, modules={"the_scheme": SCHEME})
    with monkeypatch.context() as patch:
        patch.syspath_prepend(sites[0])
        run = train("run", make_spec(loss__weighting="scheme"))
        succeed("train", "--resume", "run", "--steps", "7")
        assert "comes from" not in caplog.text
    with monkeypatch.context() as patch:
        patch.syspath_prepend(sites[1])
        succeed("train", "--resume", "run", "--steps", "8")
        assert "weighting 'scheme' came from one 1.0 when run 'run' began and comes from one 2.0 now" in caplog.text
    with monkeypatch.context() as patch:
        patch.syspath_prepend(sites[2])
        message = error_of("train", "--resume", "run", "--steps", "9", code=1)
    assert re.search(r"'scheme' of one 1\.0, and here it is two 1\.0's\. Install one", message)
    assert run.spec().training.steps == 8


@pytest.mark.parametrize("given", ["scheme", "product:factors=[scheme]"])
def test_a_plugin_that_is_not_installed_any_more_is_named_with_where_it_came_from(
    given: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {"debiasctl.weightings": {"scheme": "the_scheme:Scheme"}}
    write_distribution(tmp_path, name="one", version="1.0", entry_points=points, modules={"the_scheme": SCHEME})
    with monkeypatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        run = train("run", make_spec(loss__weighting=given))
    message = error_of("train", "--resume", "run", "--steps", "9", code=1)
    assert "run 'run' was trained with weighting 'scheme' of one 1.0, which is not installed here" in message
    assert "pip install one==1.0" in message
    assert "Did you mean" not in message
    assert run.spec().training.steps == 6


def test_so_is_one_of_the_evaluation_on_the_way() -> None:
    run = train("run", make_spec(monitor__every=1000))
    path = run.path / "spec.json"
    raw = json.loads(path.read_text())
    raw["monitor"]["sampler"] = {"name": "ddjm", "options": {}, "distribution": "fast", "version": "3.1"}
    path.write_text(json.dumps(raw))
    message = error_of("train", "--resume", "run", "--steps", "9", code=1)
    assert "trained with sampler 'ddjm' of fast 3.1, which is not installed here" in message


@pytest.mark.parametrize(
    "error, raised, message",
    [
        (RuntimeError("a plugin's own"), RuntimeError, "a plugin's own"),
        (torch.OutOfMemoryError("CUDA out of memory"), TrainingError, "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), TrainingError, "out of memory"),
    ],
)
def test_whatever_ends_a_training_is_in_its_status(
    error: Exception, raised: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = loop.train_step

    def fail_at_4(training, number):
        if number == 4:
            raise error
        return step(training, number)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", fail_at_4)
        with pytest.raises(
            raised, match="out of memory at step 4 with 8 images" if raised is TrainingError else message
        ):
            train("run", make_spec())
    run = find_run("run")
    assert (run.status().state, run.status().message) == ("failed", message)
    assert resume(run) == [4, 5, 6]


def test_a_removal_that_the_system_refuses_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr("debiasctl.temporaries.shutil", SimpleNamespace(rmtree=refuse))
    with pytest.raises(DebiasctlError, match="writing there is not allowed"):
        train("run", make_spec(training__checkpoint_every=2))


def test_steps_that_are_kept_must_be_reached() -> None:
    message = error_of("train", "digits", "--steps", "5", "--set", "training.keep_steps=[2,9]", "--dry-run", code=2)
    assert "keep_steps 9 is never reached in 5 steps" in message
    message = error_of(
        "train",
        "digits",
        "--images",
        "40",
        "--batch-size",
        "8",
        "--set",
        "training.keep_steps=[9]",
        "--dry-run",
        code=2,
    )
    assert "keep_steps 9 is never reached in 5 steps" in message


def test_options_set_for_a_plugin_that_is_then_named_are_not_lost_silently() -> None:
    plan = succeed(
        "train", "digits", "--set", "loss.weighting.options.gamma=3", "--weighting", "min-snr", "--dry-run", "--json"
    )
    assert json.loads(plan.out)["spec"]["loss"]["weighting"]["options"] == {"gamma": 3.0}


def test_the_course_of_the_learning_rate_is_noted_where_the_budget_changes_it_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    spec = make_spec(optimizer__decay="cosine")
    train("run", spec)
    succeed("train", "--resume", "run", "--steps", "9")
    assert "changes its course" in caplog.text
    caplog.clear()
    stopped = train("stopped", spec)
    stopped.update_status(state="interrupted")
    succeed("train", "--resume", "stopped")
    assert caplog.text == ""
