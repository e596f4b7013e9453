"""A few trials of the script that kills commands at random moments."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("killing.py")


@pytest.mark.slow
def test_killed_commands_lose_nothing() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--trials", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("nothing lost") == 5
