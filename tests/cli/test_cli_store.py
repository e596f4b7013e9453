"""What commands say of a run's state, data and class, and that what they print to be run, runs."""

import json
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from tiny import OPTIONS, debiasctl, error_of, succeed

from debiasctl.cli.output import say
from debiasctl.runs.parts import PARTS, disk_use, is_part
from debiasctl.runs.store import find_run

TRAIN = [*OPTIONS, "--steps", "2", "--device", "cpu"]
FEATURES = ["--features", "pixels:dimension=2", "--metrics", "fd_pixels"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_folder(folder: Path, *classes: str, seed: int = 0) -> Path:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(24):
            shade = (7 * index + 91 * number + seed) % 256
            Image.new("L", (8, 8), shade).save(folder / name / f"{index}.png")
    return folder


# ---------------------------------------------------------------- the table of parts


def test_every_command_writes_into_a_runs_folder_what_the_table_of_parts_names(here: Path) -> None:
    """Each writer is run on one run, and the table knows all that lies there then; what is exported comes back."""
    monitor = ["--evaluate-every", "8", "--set=monitor.features=pixels:dimension=2", "--set=monitor.num=4"]
    power = ["--set", "monitor.steps=2", "--set", "ema.kind=power", "--set", "ema.snapshot_every=1"]
    succeed("train", "digits", "--name", "a", *TRAIN, *monitor, *power)
    succeed("sample", "a", "--num", "4", "--steps", "2", "--trajectory", "way.png")
    succeed("sample", "a", "--num", "1", "--steps", "1,2", "--out", "strip.png")
    succeed("ema", "a", "--length", "0.053")
    succeed("evaluate", "a", "--num", "4", "--steps", "2", *FEATURES)
    succeed("likelihood", "a", "--num", "2", "--terms", "2", "--steps", "2", "--draws", "1")
    succeed("train", "--resume", "a", "--steps", "3", "--track", "tensorboard")
    succeed("runs", "tag", "a", "--add", "kept")
    run = find_run("a")
    there = {path.relative_to(run.path).as_posix(): path.is_dir() for path in run.path.rglob("*")}
    assert [path for path, folder in there.items() if not is_part(path, folder=folder)] == []
    written = {path.partition("/")[0] for path in there}
    latents = ["--set", "data.autoencoder=identity", "--name", "encoded"]
    succeed("train", "digits", *TRAIN, *latents)
    written |= {path.name for path in find_run("encoded").path.iterdir()}
    assert written == PARTS.keys() - {"analyses", ".trainer.json"}
    assert sum(disk_use(run.path).values()) == sum(p.stat().st_size for p in run.path.rglob("*") if p.is_file())
    assert disk_use(run.path).keys() == {name for name in written if (run.path / name).exists()} - _empty(run.path)
    assert json.loads(succeed("runs", "show", "a", "--json").out)["disk"] == disk_use(run.path)
    archive = succeed("runs", "export", "a").out.strip()
    succeed("runs", "import", archive, "--name", "b")
    other = find_run("b").path
    for name, part in PARTS.items():
        kept = (run.path / name).exists() and part.exported
        assert (other / name).exists() == kept
        assert list((run.path / name).rglob("*.png")) == [] or list((other / name).rglob("*.png")) != []
    shutil.move(run.path, here / "elsewhere")
    succeed("runs", "rm", str(here / "elsewhere"), "--yes")
    assert not (here / "elsewhere").exists()


def _empty(folder: Path) -> set[str]:
    """Parts without a byte in them."""
    return {name for name in PARTS if (folder / name).is_dir() and not any((folder / name).rglob("*.*"))}


def test_removal_outside_the_store_names_what_stays(here: Path) -> None:
    succeed("train", "digits", "--name", "a", *TRAIN)
    shutil.move(find_run("a").path, here / "ext")
    (here / "ext" / "checkpoints" / "00000002" / "notes.txt").write_text("mine")
    outcome = succeed("runs", "rm", "./ext", "--yes")
    assert "ext stays, because of what is not part of the run: checkpoints/00000002/notes.txt" in outcome.err
    assert (here / "ext" / "checkpoints" / "00000002" / "notes.txt").read_text() == "mine"
    assert not (here / "ext" / "spec.json").exists()


# ---------------------------------------------------------------- moved data


def test_moved_images_are_found_by_data_if_they_are_the_same(here: Path) -> None:
    folder = make_folder(here / "images", "a", "b")
    succeed("train", folder, "--name", "r", *TRAIN)
    folder.rename(here / "moved")
    measure = ["evaluate", "r", "--num", "4", "--steps", "2", *FEATURES]
    for command in (
        measure,
        ["likelihood", "r", "--num", "2", "--steps", "2"],
        ["train", "--resume", "r", "--steps", "3"],
    ):
        message = error_of(*command, code=1)
        assert f"the images of this run are not at {folder} any more" in message
        assert "say where they are now: --data PATH" in message
    make_folder(here / "others", "a", "b", seed=1)
    message = error_of(*measure, "--data", "others", code=1)
    assert len(set(re.findall("[0-9a-f]{12}…", message))) == 2
    assert "there is no such folder" in error_of(*measure, "--data", "nowhere", code=2)
    assert "--data-dir has no effect" in error_of(*measure, "--data-dir", ".", code=2)
    succeed(*measure, "--data", "moved")
    succeed("likelihood", "r", "--method", "bound", "--num", "2", "--terms", "2", "--data", "moved")
    assert str(folder) in json.dumps(find_run("r").spec().model_dump(mode="json"))  # measuring changes no run
    succeed("train", "--resume", "r", "--steps", "3", "--data", "moved")
    assert find_run("r").spec().data.dataset.options["path"] == str(here / "moved")
    succeed(*measure)
    assert find_run("r").spec().training.steps == 3


def test_data_that_are_found_by_their_name_have_no_path(here: Path) -> None:
    succeed("train", "digits", "--name", "r", *TRAIN)
    assert "--data-dir DIR" in error_of("likelihood", "r", "--data", ".", code=2)
    assert "Name new data without it" in error_of("train", "digits", "--data", ".", code=2)
    assert "--reference" in error_of("evaluate", "--samples", ".", "--reference", "digits", "--data", ".", code=2)


# ---------------------------------------------------------------- failed and untrained runs, classes


def test_what_is_drawn_of_a_failed_or_untrained_run_is_said(here: Path) -> None:
    succeed("train", "digits", "--name", "r", *TRAIN)
    run = find_run("r")
    draw = ["sample", "r", "--num", "1", "--steps", "2"]
    assert "failed" not in succeed(*draw).err
    assert "checkpoint 0 of run 'r' has had no training" in succeed(*draw, "--checkpoint", "0").err
    shutil.rmtree(run.checkpoint_path(2))
    run.write_status(replace(run.status(), state="failed", step=1, message="the loss of step 2 is nan. Lower it"))
    for command in (
        draw,
        ["evaluate", "r", "--num", "4", "--steps", "2", *FEATURES],
        ["likelihood", "r", "--method", "bound", "--num", "2", "--terms", "2"],
    ):
        notes = succeed(*command, "--checkpoint", "0").err
        assert "note: run 'r' failed at step 1: the loss of step 2 is nan (see debiasctl runs show r)" in notes
        assert "Checkpoint 0 is used" in notes
        assert "checkpoint 0 of run 'r' has had no training" in notes


def test_a_number_that_is_a_name_of_a_class_is_no_index_and_what_is_drawn_is_said(here: Path) -> None:
    folder = make_folder(here / "images", "3", "5", "7")
    succeed("train", folder, "--name", "r", *TRAIN, "--set", "data.dataset.classes=folders")
    draw = ["sample", "r", "--num", "1", "--steps", "2", "--class"]
    assert "class '5' (index 1)" in succeed(*draw, "5").out
    assert "class '5' (index 1)" in succeed(*draw, "index:1").out
    assert "Known: 3, 5, 7; or by index, index:0 to index:2" in error_of(*draw, "1", code=2)


# ---------------------------------------------------------------- what is printed to be run


def printed_commands(text: str) -> list[list[str]]:
    return [shlex.split(line.partition("next: debiasctl ")[2]) for line in text.splitlines() if "next: " in line]


def test_next_commands_of_a_short_schedule_run(here: Path) -> None:
    trained = succeed("train", "digits", "--name", "r", "--schedule", "cosine:num_timesteps=10", *TRAIN)
    draw, measure = printed_commands(trained.err)
    assert "10 steps" in succeed(*draw).out
    succeed(*measure, "--num", "8", *FEATURES)
    succeed("likelihood", "r", "--num", "2", "--draws", "1")


def test_the_next_command_of_an_average_draws_from_its_checkpoint(here: Path) -> None:
    power = ["--set", "ema.kind=power", "--set", "ema.snapshot_every=1", "--checkpoint-every", "2"]
    succeed("train", "digits", "--name", "r", *OPTIONS, "--steps", "4", *power)
    (command,) = printed_commands(succeed("ema", "r", "--length", "0.1", "--step", "2").err)
    assert "--checkpoint" in command
    assert "checkpoint 2, ema:0.1" in succeed(*command, "--num", "1", "--steps", "2").out
    assert printed_commands(succeed("ema", "r", "--length", "0.1", "--step", "3").err) == []


# ---------------------------------------------------------------- misuse, and what reaches a terminal


def test_misuse_of_weights_and_steps_is_misuse(here: Path) -> None:
    succeed("train", "digits", "--name", "r", *TRAIN)
    assert "keeps one average" in error_of("sample", "r", "--weights", "ema:0.1", "--steps", "2", code=2)
    for command in ("sample", "evaluate", "likelihood"):
        assert "'many'" in error_of(command, "r", "--steps", "many", code=2)
    assert "'--lr': 'much'" in error_of("train", "digits", "--lr=much", code=2)


def test_a_name_never_steers_a_terminal(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    succeed("train", "digits", "--name", "r", *TRAIN)
    bad = here / "run\x1b[2J"
    shutil.move(find_run("r").path, bad)
    for command in (
        ["sample", str(bad), "--num", "1", "--steps", "2"],
        ["runs", "show", str(bad)],
        ["evaluate", str(here / "x\x1b[2J")],
    ):
        outcome = debiasctl(*command)
        assert "\x1b" not in outcome.err
        assert "\x1b" not in outcome.out or "images.npz" in outcome.out  # a path in a pipe is whole
    assert "run\x1b[2J" in debiasctl("runs", "path", str(bad)).out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    say(bad)
    assert r"run\x1b[2J" in capsys.readouterr().out


def test_doctor_names_what_killed_commands_left(debiasctl_home: Path) -> None:
    left = debiasctl_home / "cache" / "datasets" / ".x.999999.0123abcd.tmp"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"123")
    assert json.loads(succeed("doctor", "--json").out)["unfinished"] == [{"path": str(left), "bytes": 3}]
    assert f"left unfinished by a command that was killed: {left}" in succeed("doctor").out
