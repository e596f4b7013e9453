"""A command in a hint or message carries the options that were given and matter there."""

import os
from pathlib import Path

import pytest
from tiny import OPTIONS, debiasctl, succeed

from debiasctl.cli.launch import processes_here
from debiasctl.errors import Interrupted


def test_what_comes_next_has_the_device_and_the_place_of_the_data(tmp_path: Path) -> None:
    place = tmp_path / "my data"
    place.mkdir()
    options = ("--steps", "1", "--name", "run", "--device", "cpu", "--data-dir", place)
    said = succeed("train", "digits", *OPTIONS, *options).err
    assert said.splitlines()[-2:] == [
        "next: debiasctl sample run --out run.png --device cpu",
        f"next: debiasctl evaluate run --data-dir '{place}' --device cpu",
    ]


def test_the_place_of_the_data_is_left_out_where_it_would_be_refused(tmp_path: Path, photo_folder: Path) -> None:
    options = ("--steps", "1", "--name", "run", "--device", "cpu", "--data-dir", tmp_path)
    said = succeed("train", photo_folder, *OPTIONS, *options).err
    assert said.endswith("next: debiasctl evaluate run --device cpu\n")


@pytest.mark.parametrize("typed, end", [("run", ""), ("'my run'", "."), ("a.b", "; or choose another `name`")])
def test_how_to_resume_has_what_was_given(monkeypatch: pytest.MonkeyPatch, typed: str, end: str) -> None:
    def stopped(*arguments: object, **more: object) -> None:
        raise Interrupted(f"stopped. Resume it: debiasctl train --resume {typed}{end}", signal_number=15)

    monkeypatch.setattr("debiasctl.training.session.start", stopped)
    options = ("--steps", "4", "--name", "run", "--device", "cpu", "--max-hours", "3")
    said = debiasctl("train", "digits", *OPTIONS, *options).err
    assert f"debiasctl train --resume {typed} --device cpu --max-hours 3.0{end.replace('`name`', '--name')}" in said
    monkeypatch.setitem(os.environ, "TORCHELASTIC_RUN_ID", "debiasctl-1")
    monkeypatch.setattr("debiasctl.cli.repeat.processes_here", lambda: 2)
    said = debiasctl("train", "digits", *OPTIONS, *options).err
    assert f"--resume {typed} --device cpu --max-hours 3.0 --processes 2{end.replace('`name`', '--name')}" in said


def test_processes_are_counted_where_the_option_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes_here() == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # torchrun, typed by the user
    assert processes_here() == 1
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "debiasctl-0")
    assert processes_here() == 2
