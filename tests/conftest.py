"""Every test has a user folder of its own and a terminal of known size."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def debiasctl_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("DEBIASCTL_HOME", str(home))
    monkeypatch.delenv("DEBIASCTL_DATA", raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    return home
