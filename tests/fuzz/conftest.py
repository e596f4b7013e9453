import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import counted
from sandboxes import Sandbox
from tiny import OPTIONS, succeed


@pytest.fixture(scope="module", autouse=True)
def _quiet_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of libraries, and temporary files, where the guard can tell them from a fault."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLCONFIGDIR", str(tmp_path_factory.mktemp("matplotlib")))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setattr("sys.dont_write_bytecode", True)
        yield


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user folder with the tiny runs a and b, of digits, sampled and evaluated; used by all cases of a module."""
    home = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(home))
        patch.setenv("COLUMNS", "120")
        for name, weighting in (("a", "debiased"), ("b", "constant")):
            succeed("train", "digits", "--weighting", weighting, *OPTIONS, "--steps", "4", "--name", name)
            succeed("runs", "tag", name, "--add", "x")
            succeed("evaluate", name, "--num", "8", "--steps", "2", "--features", "pixels:dimension=4")
        yield home


@pytest.fixture
def sandbox(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    box = Sandbox(tmp_path / "home", tmp_path / "work", stored)
    monkeypatch.setenv("DEBIASCTL_HOME", str(box.home))
    monkeypatch.setenv("TMPDIR", str(box.work))
    monkeypatch.setattr("tempfile.tempdir", str(box.work))
    box.renew()
    os.chdir(box.work)
    yield box
    os.chdir("/")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not counted:
        return
    targets: dict[str, list[str]] = defaultdict(list)
    for (target, ended), number in sorted(counted.items()):
        targets[target].append(f"{ended}: {number}")
    terminalreporter.section("cases by target, and how they ended")
    for target, ends in targets.items():
        terminalreporter.write_line(f"{target}: {', '.join(ends)}")
    terminalreporter.write_line(f"all: {sum(counted.values())}")
