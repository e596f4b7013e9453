"""The README's commands, and that of the page on packages, as they stand there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "plugin-packages.md"


def test_the_page_on_packages_trains_what_can_be_trained(tmp_path: Path) -> None:
    (command,) = re.findall(r"^debiasctl (train .*--backbone edm2.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    words = [sys.executable, "-m", "debiasctl", *command.split(), "--dry-run"]
    environment = os.environ | {"DEBIASCTL_HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_commands_run(tmp_path: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "debiasctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m debiasctl "$@"\n')
    (tmp_path / "debiasctl").chmod(0o755)
    script = re.sub(r"^pip install .*\n", "", block, flags=re.MULTILINE)
    environment = os.environ | {
        "DEBIASCTL_HOME": str(tmp_path / "home"), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    }  # fmt: skip
    bash = shutil.which("bash")
    done = subprocess.run([bash, "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "edm2.png").stat().st_size > 0
