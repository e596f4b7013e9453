"""A value that is no number is answered with what an option takes, and several values with a list of them."""

import shlex

import pytest
from tiny import OPTIONS, error_of, succeed
from typer.main import get_command

from debiasctl.cli.app import app
from debiasctl.cli.values import is_list


@pytest.mark.parametrize(
    "line, said",
    [
        ("train digits --image-size 16x16", "'16x16': give one whole number of pixels, for example 16"),
        ("train digits --image-size big", "'big': give one whole number of pixels, for example 16"),
        ("train digits --steps 10,50", "'10,50': give one whole number, for example 10"),
        ("train digits --seed 1.5", "'1.5': give one whole number"),
        ("train digits --lr fast", "'fast': give one number"),
        ("train digits --set training.steps=1k --dry-run", "valid integer: give one whole number (given: 1k)"),
        ("train digits --set optimizer.lr=high --dry-run", "valid number: give one number (given: high)"),
    ],
)
def test_one_number_is_asked_for(line: str, said: str) -> None:
    message = error_of(*line.split(), code=2)
    assert said in message
    assert "parse" not in message


@pytest.mark.parametrize(
    "line, meant",
    [
        ("evaluate run --steps 10 50", "--steps 10,50"),
        ("evaluate run --steps 10 50 100 --num 8", "--steps 10,50,100"),
        ("evaluate --steps 10, 50 run", "--steps 10,50"),
        ("evaluate run --steps=10 50", "--steps 10,50"),
        ("evaluate run --checkpoints 10 50", "--checkpoints 10,50"),
        ("evaluate run --metrics fd_local kd_local", "--metrics fd_local,kd_local"),
        ("sample run --steps 10 50 --same-noise --out strip.png", "--steps 10,50"),
        ("ema run --length 0.1 0.2", "--length 0.1,0.2"),
        ("train digits --track tensorboard wandb", "--track tensorboard,wandb"),
        ("runs list --columns name lr", "--columns name,lr"),
    ],
)
@pytest.mark.usefixtures("debiasctl_home")
def test_several_values_are_answered_with_a_list(line: str, meant: str) -> None:
    if line.startswith("sample"):
        succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "run")
    assert f"Several are separated by commas: {meant}" in error_of(*shlex.split(line), code=2)


@pytest.mark.parametrize("line", ["train digits --steps 10 50", "evaluate run extra", "sample run --steps 10 --num 50"])
def test_what_is_no_list_is_not_answered_so(line: str) -> None:
    assert "commas" not in error_of(*line.split(), code=2)


def test_every_option_that_its_parser_splits_says_so() -> None:
    lists = {"evaluate": {"--steps", "--checkpoints", "--metrics"}, "sample": {"--steps"}, "train": {"--track"}}
    for name, expected in lists.items():
        command = get_command(app).commands[name]  # type: ignore[attr-defined]
        assert {one.opts[0] for one in command.params if is_list(one)} == expected
