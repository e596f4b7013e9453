"""The command keeps the contract of its kind, and computes what it states."""

from debiasctl.testing import check_command
from typer.testing import CliRunner

from my_package.command import app, moving_average


def test_it_keeps_its_contract() -> None:
    check_command(app)


def test_the_moving_average_of_1_to_n() -> None:
    """In full windows, the mean of k - w + 1 ... k is k - (w - 1)/2; before, that of 1 ... k is (k + 1)/2."""
    found = list(moving_average(range(1, 11), 4))
    assert found == [1, 1.5, 2, *(k - 1.5 for k in range(4, 11))]


def test_a_window_of_none_is_refused() -> None:
    result = CliRunner().invoke(app, ["a-run", "--window", "0"])
    assert result.exit_code == 2
