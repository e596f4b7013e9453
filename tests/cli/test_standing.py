"""What a command says of the run that it was given: which it is, and whether it has been trained at all."""

import shutil
from pathlib import Path

import pytest
from tiny import OPTIONS, debiasctl, error_of, succeed

NAME = "emoji-constant-0"


@pytest.fixture(scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("standing")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(home))
        patch.delenv("DEBIASCTL_DATA", raising=False)
        succeed("train", "digits", *OPTIONS, "--steps", "2", "--name", NAME, "--set", "training.checkpoint_every=2")
    return home


@pytest.fixture
def run(_home: Path, debiasctl_home: Path) -> Path:
    """A user folder with one run, of 2 steps; returns its folder."""
    shutil.copytree(_home, debiasctl_home, dirs_exist_ok=True)
    return debiasctl_home / "runs" / NAME


@pytest.mark.parametrize(
    "line",
    [
        "sample RUN --num 1 --steps 2 --device cpu",
        "sample RUN --num 1 --steps 2 --device cpu --checkpoint 7",
        "evaluate RUN --checkpoint 7",
        "likelihood RUN --checkpoint 7",
        "ema RUN --length 0.1",
        "train --resume RUN --device cpu",
        "train digits --init-from RUN --name other --dry-run --device cpu",
        "runs show RUN",
        "runs path RUN",
        "runs note RUN",
        "runs export RUN",
    ],
)
@pytest.mark.usefixtures("run")
def test_the_beginning_of_a_name_is_answered_with_the_name(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = f"note: 'emoji-c' is run '{NAME}'\n"
    assert debiasctl(*line.replace("RUN", "emoji-c").split()).err.count(told) == 1
    assert "note: 'emoji" not in debiasctl(*line.replace("RUN", NAME).split()).err


def test_a_path_is_no_beginning_of_a_name(run: Path) -> None:
    assert "note:" not in debiasctl("runs", "path", run).err


@pytest.mark.parametrize("line", ["sample RUN --num 1 --steps 2", "evaluate RUN --num 8 --steps 2", "likelihood RUN"])
@pytest.mark.parametrize("more", [[], ["--checkpoint", "last"]])
def test_an_untrained_network_is_used_only_where_its_checkpoint_is_named(run: Path, line: str, more: list[str]) -> None:
    for checkpoint in (run / "checkpoints").iterdir():
        if int(checkpoint.name):
            shutil.rmtree(checkpoint)
    said = error_of(*line.replace("RUN", NAME).split(), *more, "--device", "cpu", code=2)
    assert f"run '{NAME}' has no checkpoint but that of step 0" in said
    assert f"Train it first: debiasctl train --resume {NAME}; or take it as it is: --checkpoint 0" in said


def test_the_network_before_training_is_drawn_from_where_it_is_asked_for(run: Path) -> None:
    draw = ("sample", NAME, "--num", "1", "--steps", "2", "--device", "cpu")
    assert "checkpoint 0" in succeed(*draw, "--checkpoint", "0").out
