import pytest

from debiasctl.wording import did_you_mean, format_bytes


@pytest.mark.parametrize(
    "count, text", [(0, "0.0 MB"), (999_900_000, "999.9 MB"), (1.5e9, "1.5 GB"), (2e12, "2000.0 GB")]
)
def test_bytes(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    "name, text", [("debias", " Did you mean 'debiased'?"), ("min_snr", " Did you mean 'min-snr'?"), ("zzz", "")]
)
def test_the_nearest_known_name_is_suggested(name: str, text: str) -> None:
    assert did_you_mean(name, ["constant", "debiased", "min-snr"]) == text
