import pytest

from debiasctl.errors import UsageError
from debiasctl.models.weights import parse_weights, weights_name


def test_the_weights_that_users_name() -> None:
    assert parse_weights("raw") == ("raw", None)
    assert parse_weights("ema") == ("ema", None)
    assert parse_weights("ema:0.150") == ("ema", 0.15)
    with pytest.raises(UsageError, match="`weights=mean`: choose ema"):
        parse_weights("mean")
    for text in ("ema:", "ema:long", "ema:nan", "ema:0.5", "ema:-0.1"):
        with pytest.raises(UsageError, match=r"a length is a number from 0\.001 to 0\.28"):
            parse_weights(text)


def test_equal_weights_have_one_spelling() -> None:
    assert [weights_name(text) for text in ("raw", "ema", "ema:0.150", "ema:.15")] == ["raw", "ema", *["ema:0.15"] * 2]
