from collections.abc import Iterator
from pathlib import Path

import pytest
from here import installed


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The engine `here`, which runs jobs in this process; the list holds the names of those that it began."""
    with installed(tmp_path / "site", monkeypatch) as order:
        yield order
