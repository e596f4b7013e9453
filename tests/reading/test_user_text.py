"""Paths and numbers from users and from the environment."""

from pathlib import Path

import pytest
from tiny import error_of
from typer.testing import CliRunner

from debiasctl import paths
from debiasctl.cli.app import app
from debiasctl.errors import UsageError
from debiasctl.reading.launched import launched
from debiasctl.reading.user_text import expanded, user_path, whole_number


@pytest.mark.parametrize("text", ["", "  ", "a\0b", "~nosuchuser/x", "~nosuchuser"])
def test_paths_that_name_nothing(text: str) -> None:
    with pytest.raises(ValueError, match=r"names nothing|NUL character|no home folder for '~nosuchuser'"):
        expanded(text)
    with pytest.raises(UsageError, match=r"^`samples`: "):
        user_path(text, argument="`samples`")


def test_a_path_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/x") == Path("/home/me/x")
    assert expanded("a/~b") == Path("a/~b")


@pytest.mark.parametrize(
    "text, number", [("0", 0), ("17", 17), ("9" * 18, 10**18 - 1), ("9" * 19, None), ("9" * 5_000, None), ("٣", None),
                     ("-1", None), ("1.0", None), ("", None), ("²", None)],
)  # fmt: skip
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("name", ["DEBIASCTL_HOME", "DEBIASCTL_DATA"])
@pytest.mark.parametrize("value", ["~nosuchuser/x", "   "])
def test_folders_in_the_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"the environment variable {name}: "):
        paths.home() if name == "DEBIASCTL_HOME" else paths.data_dir()


NUMBERS = ["RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["abc", "1.5", "-2", "9" * 30, "٣"])
def test_numbers_of_a_launcher(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"the environment variable {name} is "):
        launched()


@pytest.mark.parametrize("command", [["runs", "list"], ["train", "digits", "--dry-run"]])
def test_a_launcher_without_numbers_is_one_message(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("RANK", "abc")
    assert "the environment variable RANK is 'abc'" in error_of(*command, code=2)


def test_numbers_of_a_launcher_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() == (0, 1)
    monkeypatch.setenv("LOCAL_RANK", "-1")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(UsageError, match="process 1 of 1"):
        launched()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched() == (1, 2)


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["train", ""], "an argument is empty"),
        (["train", "  "], "an argument is empty"),
        (["train", "digits", "--name", ""], "--name is empty"),
        (["train", "digits", "--name="], "--name is empty"),
        (["train", "digits", "--data-dir", ""], "--data-dir is empty"),
        (["sample", ""], "an argument is empty"),
        (["sample", "a", "--out", ""], "--out is empty"),
        (["evaluate", "--samples", "", "--reference", "digits"], "--samples is empty"),
        (["runs", "rm", ""], "an argument is empty"),
        (["runs", "import", ""], "an argument is empty"),
        (["compare", "a", ""], "an argument is empty"),
    ],
)
def test_an_unset_variable_of_the_shell_never_means_the_working_folder(arguments: list[str], named: str) -> None:
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, UsageError)
    assert str(error).startswith(named)
