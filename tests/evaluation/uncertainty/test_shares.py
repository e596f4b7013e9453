import numpy as np
import pytest

from debiasctl.evaluation.uncertainty.shares import (
    packed,
    paired_difference,
    reaching,
    share_interval,
    unpacked,
    unpaired_difference,
)

RANDOM = np.random.default_rng(0)


def table(both, first, second, neither):
    """Bits of two sets of images: how many count in both, in one alone, and in neither."""
    counts = (both, first, second, neither)
    rows = [row for row, count in zip(((1, 1), (1, 0), (0, 1), (0, 0)), counts, strict=True) for _ in range(count)]
    return [[bool(row[place]) for row in rows] for place in (0, 1)]


def test_paired_differences_are_tangos():
    """The published example (Newcombe, 1998, table II): 36, 12, 2 and 0 of 50 pairs."""
    first, second = table(36, 2, 12, 0)
    found = paired_difference(first, second)
    assert found.estimate == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.0611, 0.3447), abs=1e-4)
    turned = paired_difference(second, first)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_a_difference_without_a_discordant_image_is_not_known_exactly():
    z = 1.959964
    found = paired_difference(*table(10, 0, 0, 990))
    assert (found.low, found.high) == pytest.approx((-(z**2) / (1000 + z**2), z**2 / (1000 + z**2)), abs=1e-5)
    assert found.p == 1


def test_the_p_value_is_where_the_interval_reaches_0():
    first, second = table(500, 10, 24, 466)
    found = paired_difference(first, second)
    assert paired_difference(first, second, level=1 - found.p).low == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.3])
def test_paired_intervals_hold_the_truth(rate):
    """Of shares that differ in a few images of 1,000 alone."""
    held = 0
    for _ in range(300):
        gained, lost = RANDOM.binomial(1000, [rate, rate / 2])
        found = paired_difference(*table(0, lost, gained, 1000 - gained - lost))
        held += found.low <= rate / 2 <= found.high
    assert held >= 0.92 * 300


def test_unpaired_differences_are_newcombes():
    """His example: 56 of 70 against 48 of 80, by method 10."""
    found = unpaired_difference(share_interval(48, 80), share_interval(56, 70))
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    nothing = unpaired_difference(share_interval(0, 300), share_interval(0, 300))
    assert nothing.low < 0 < nothing.high
    assert nothing.p == 1


def test_an_uncertain_threshold_widens_a_share():
    plain = share_interval(10, 1000)
    wide = reaching(plain, 1000, 0.004, 0.022)
    excess = (1 + 1.959964**2 / (4 * 11)) ** 0.5
    assert wide.estimate - wide.low == pytest.approx(np.hypot(0.01 - plain.low, 0.006) / excess)
    assert wide.high - wide.estimate == pytest.approx(np.hypot(plain.high - 0.01, 0.012) / excess)
    assert reaching(plain, 1000, 0.0, 0.022).low == 0
    assert reaching(plain, 1000, 0.01, 0.01) == reaching(plain, 1000, 0.0099, 0.0101) == plain, "never narrower"


@pytest.mark.parametrize("num", [1, 8, 13])
def test_bits_are_kept(num):
    bits = (RANDOM.random(num) < 0.5).tolist()
    assert unpacked(packed(bits), num) == bits
    with pytest.raises(ValueError, match="hold no bit for each"):
        unpacked(packed(bits), num + 8)
