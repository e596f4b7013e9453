"""Fixtures of the data sets' tests."""

from pathlib import Path

import pytest

from debiasctl.api import DataLocation


@pytest.fixture
def location(tmp_path: Path) -> DataLocation:
    """No data folder, and an empty cache."""
    return DataLocation(None, tmp_path / "cache")
