"""The table of commands, from which the help is written without importing any of them."""

import inspect
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from debiasctl.cli.app import app
from debiasctl.cli.commands import COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_all_says_of_a_command_what_its_own_help_says_first(name: str) -> None:
    group: Any = typer.main.get_command(app)
    command = group.commands[name]
    assert command.name == name
    assert inspect.cleandoc(command.help).partition("\n")[0] == COMMANDS[name]


def test_a_commands_own_help_is_whole() -> None:
    shown = CliRunner().invoke(app, ["compare", "-h"])
    assert shown.exit_code == 0
    assert "--metric" in shown.stdout
    assert "Examples" in shown.stdout


def test_the_help_of_all_imports_no_command() -> None:
    code = (
        "import sys\nfrom debiasctl.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {list(COMMANDS)} if f'debiasctl.cli.{{name}}' in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert all(name in done.stdout for name in COMMANDS)
