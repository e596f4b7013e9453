import pytest

from debiasctl.reporting.text import format_bytes


@pytest.mark.parametrize(
    "count, text", [(0, "0.0 MB"), (999_900_000, "999.9 MB"), (1.5e9, "1.5 GB"), (2e12, "2000.0 GB")]
)
def test_bytes(count: float, text: str) -> None:
    assert format_bytes(count) == text
