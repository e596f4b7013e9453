"""Every test has a user folder of its own, no network, and one thread."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import diffusers
import pytest
import torch


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    monkeypatch.setenv("DEBIASCTL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path / "home"
