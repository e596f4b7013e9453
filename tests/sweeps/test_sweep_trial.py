"""A sweep's trial: one small network and budget for all arms, whose runs take about half an hour together."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import OPTIONS, error_of, succeed

from debiasctl.sweeps import conduct, work
from debiasctl.sweeps.answer import Answer
from debiasctl.sweeps.store import find_sweep
from debiasctl.training import speed, trial

_COARSE = [factor * 10**power for power in range(2, 6) for factor in (1, 2, 5)]
ALONE = ("--jobs", "1", "--threads", "1", "--device", "cpu")


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that a step is said to take, which a test may change."""
    seconds = [1.0]
    monkeypatch.setattr("psutil.getloadavg", lambda: (0.5, 0.5, 0.5))
    for module in (trial, speed):
        monkeypatch.setattr(module, "seconds_per_step", lambda *args, **more: seconds[0])
    return seconds


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(80):
        Image.new("RGB", (16, 16), (number, 2 * number, 3)).save(folder / f"{number}.png")
    return folder


def dry_run(*arguments: str | Path) -> tuple[dict[str, Any], str]:
    outcome = succeed("sweep", *arguments, *ALONE, "--dry-run", "--json")
    return json.loads(outcome.out)["sweep"], outcome.err


@pytest.mark.parametrize(
    "seconds, seeds, at_most, num",
    [(0.01, 3, None, 1000), (0.2, 2, None, 1000), (0.5, 3, 500, 500), (9.0, 1, 500, 200)],
)
def test_all_runs_together_take_about_half_an_hour(
    step: list[float], photos: Path, seconds: float, seeds: int, at_most: int | None, num: int
) -> None:
    step[0] = seconds
    stored, said = dry_run(photos, "--weighting", "constant,p2,debiased", "--seeds", str(seeds), "--trial")
    settings = [arm["spec"]["training"] for arm in stored["arms"]]
    steps, batch = settings[0]["steps"], settings[0]["batch_size"]
    assert settings == [settings[0]] * 3
    assert stored["evaluate"]["num"] == num

    def whole(steps: int) -> float:
        return 3 * seeds * seconds * (steps + num * 50 / batch / 3)

    if at_most is None:
        assert whole(steps) <= 36 * 60 < whole(_COARSE[_COARSE.index(steps) + 1])
    else:
        assert steps == at_most
    assert ("more than the half hour of a trial" in said) == (whole(steps) > 36 * 60)
    assert f"{3 * seeds} runs take about" in said
    assert f"1 at once ({seconds:.2g} s a step with 1 thread, measured" in said


def test_the_same_settings_by_themselves_are_the_same_sweep(step: list[float], photos: Path) -> None:
    command = (photos, "--weighting", "constant,debiased", "--lr", "0.5", "--seeds", "2")
    stored, said = dry_run(*command, "--trial")
    (flags,) = (line for line in said.splitlines() if line.startswith("the same settings elsewhere: "))
    again, _ = dry_run(*command, *shlex.split(flags.partition(": ")[2]))
    for sweep in (stored, again):
        del sweep["created"]
    assert again == stored
    assert stored["arms"][0]["spec"]["optimizer"]["lr"] == 0.5


def test_a_trial_that_is_stored_keeps_its_steps(
    step: list[float], photos: Path, monkeypatch: pytest.MonkeyPatch, order: list[str]
) -> None:
    monkeypatch.setattr(work, "_measure", lambda *args, **settings: None)
    monkeypatch.setattr(work, "_train", lambda *args, **settings: None)
    monkeypatch.setattr(conduct, "answer_of", lambda *args, **settings: Answer("nothing", is_settled=False))
    command = ("sweep", photos, "--weighting", "constant,p2", *ALONE, "--trial", "--engine", "here")
    step[0] = 0.1
    succeed(*command, "--seeds", "1")
    before = find_sweep("photos-trial").stored()
    step[0] = 30.0
    succeed(*command, "--seeds", "2", "--evaluate-steps", "10,50")
    after = find_sweep("photos-trial").stored()
    assert after.seeds == [0, 1]
    assert after.arms == before.arms
    assert after.evaluate.num == before.evaluate.num
    assert sorted(after.evaluate.steps) == [10, 50]


def test_small_recommended_settings_are_kept_where_there_is_time(step: list[float]) -> None:
    step[0] = 0.01
    stored, said = dry_run("digits", "--weighting", "constant,p2", "--trial")
    plain, _ = dry_run("digits", "--weighting", "constant,p2")
    assert stored["arms"] == plain["arms"]
    assert "trial: the data set's small network and budget: unet, 400 steps" in said


def test_explicit_settings_win(step: list[float], photos: Path) -> None:
    stored, _ = dry_run(photos, *OPTIONS, "--steps", "40", "--num", "30", "--lr", "1e-2,1e-3", "--trial")
    specs = [arm["spec"] for arm in stored["arms"]]
    assert [spec["optimizer"]["lr"] for spec in specs] == [1e-2, 1e-3]
    assert {spec["model"]["backbone"]["name"] for spec in specs} == {"dit"}
    assert {(spec["training"]["steps"], spec["optimizer"]["warmup_steps"]) for spec in specs} == {(40, 4)}
    assert stored["evaluate"]["num"] == 30


def test_a_study_file_asks_for_a_trial(step: list[float], photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        f"dataset: {photos}\ntrial: true\nthreads: 1\ngrid: {{weighting: [constant, p2]}}\nsettings: {{lr: 0.5}}\n"
    )
    by_file = json.loads(succeed("sweep", file, "--jobs", "1", "--device", "cpu", "--dry-run", "--json").out)["sweep"]
    by_options, _ = dry_run(photos, "--weighting", "constant,p2", "--lr", "0.5", "--trial")
    assert by_file["arms"] == by_options["arms"]
    file.write_text(f"dataset: {photos}\ntrial: true\ngrid: {{steps: [3, 4]}}\n")
    assert f"{file}, line 2: --trial chooses one budget for all arms" in error_of("sweep", file, code=2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("digits", "--images", "99"), "Give --steps instead of --images"),
        (("digits", "--steps", "5,6"), "--trial chooses one budget for all arms. Give one value of --steps"),
        (("--resume", "x"), "does not take --trial"),
        (("digits", "--weighting", "debias"), "unknown weighting 'debias'"),
    ],
)
def test_what_contradicts_a_trial_is_refused(step: list[float], arguments: tuple[str, ...], message: str) -> None:
    assert message in error_of("sweep", *arguments, "--trial", code=2)


def test_a_sweep_that_takes_long_names_its_trial(step: list[float], photos: Path) -> None:
    step[0] = 3.0
    command = ("sweep", photos, "--lr", "0.1,0.2", "--steps", "90000", "--name", "mine", *ALONE, "--dry-run")
    said = succeed(*command).err
    assert "a trial of about half an hour for all runs" in said
    assert f"debiasctl sweep {photos} --lr 0.1,0.2 --jobs 1 --threads 1 --device cpu --trial" in said
