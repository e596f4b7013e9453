"""First crossings of a level, and ratios of them with what censoring leaves."""

import math

import pytest
from scipy import stats

from debiasctl.comparison.statistics.speed_up import Crossing, Curve, crossing, speed_up


def falling(reached: float) -> Curve:
    """A curve that reaches 1 at `reached`, between 10 and 1,000."""
    slope = 1 / (1000 - reached)
    return [(10, 1 + (reached - 10) * slope), (1000, 0.0)]


def never(last: float = 1000) -> Curve:
    return [(10, 3.0), (last, 2.0)]


def at_once() -> Curve:
    return [(10, 0.5), (1000, 0.1)]


def test_the_crossing_is_interpolated_on_a_line() -> None:
    curve = [(100, 3.0), (200, 1.5), (300, 0.5), (400, 2.0), (500, 0.1)]
    assert crossing(curve, 1.0, better="lower") == Crossing(250)
    assert crossing(curve, 1.5, better="lower") == Crossing(200)
    assert crossing([(x, -y) for x, y in curve], -1.0, better="higher") == Crossing(250)
    assert crossing(falling(123), 1.0, better="lower").x == pytest.approx(123)


def test_a_level_outside_of_the_curve_is_a_bound() -> None:
    assert crossing(never(), 1.0, better="lower") == Crossing(1000, "at least")
    assert crossing(at_once(), 1.0, better="lower") == Crossing(10, "at most")


def test_points_that_are_not_finite_do_not_reach_the_level() -> None:
    assert crossing([(1, 3.0), (2, math.nan), (3, 0.5)], 1.0, better="lower") == Crossing(3)
    assert crossing([(1, 3.0), (2, -math.inf)], 1.0, better="lower") == Crossing(2, "at least")


@pytest.mark.parametrize("curve", [[], [(2, 1.0), (1, 0.5)], [(1, 1.0), (1, 0.5)], [(-1, 1.0)], [(math.nan, 1.0)]])
def test_a_curve_has_points_in_order(curve: Curve) -> None:
    with pytest.raises(ValueError, match="curve"):
        crossing(curve, 1.0, better="lower")


def test_of_paired_seeds_it_is_the_paired_t_test_of_logarithms() -> None:
    mine, theirs = (100, 150, 120), (220, 260, 300)
    found = speed_up(
        {seed: falling(x) for seed, x in enumerate(mine)},
        {seed: falling(x) for seed, x in enumerate(theirs)},
        level=1.0,
        better="lower",
    )
    expected = stats.ttest_rel([math.log(x) for x in theirs], [math.log(x) for x in mine])
    assert found.paired
    assert found.bound == "exact"
    assert found.num == (3, 3)
    assert found.note is None
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx([math.exp(x) for x in expected.confidence_interval(0.95)])
    assert found.ratio == pytest.approx(math.prod(theirs) ** (1 / 3) / math.prod(mine) ** (1 / 3))


def test_of_other_seeds_it_is_the_pooled_t_test_of_logarithms() -> None:
    mine, theirs = (100, 150, 120), (220, 260)
    found = speed_up(
        {seed: falling(x) for seed, x in enumerate(mine)},
        {seed + 7: falling(x) for seed, x in enumerate(theirs)},
        level=1.0,
        better="lower",
    )
    expected = stats.ttest_ind([math.log(x) for x in theirs], [math.log(x) for x in mine])
    assert not found.paired
    assert found.num == (3, 2)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx([math.exp(x) for x in expected.confidence_interval(0.95)])


def test_a_reference_that_ends_before_gives_at_least() -> None:
    arm = {0: falling(100), 1: falling(150), 2: falling(120)}
    found = speed_up(arm, {0: falling(400), 1: never(), 2: falling(500)}, level=1.0, better="lower")
    counted = speed_up(arm, {0: falling(400), 1: falling(1000 - 1e-9), 2: falling(500)}, level=1.0, better="lower")
    assert found.bound == "at least"
    assert found.ratio == pytest.approx(counted.ratio)
    assert found.low == pytest.approx(counted.low)
    assert found.high is None
    turned = speed_up({0: falling(400), 1: never(), 2: falling(500)}, arm, level=1.0, better="lower")
    assert turned.bound == "at most"
    assert turned.low is None
    assert turned.high == pytest.approx(1 / (found.low or 0))
    assert turned.p == found.p


def test_a_bound_is_no_evidence_in_the_other_direction() -> None:
    """The reference ends early, so that "at least" is all that is known of a ratio below 1."""
    arm = {0: falling(800), 1: falling(850), 2: falling(900)}
    found = speed_up(arm, {seed: never(100 + seed) for seed in arm}, level=1.0, better="lower")
    assert found.bound == "at least"
    assert found.ratio is not None
    assert found.ratio < 1
    assert found.p == 1.0


def test_pairs_of_which_neither_arrives_have_no_number() -> None:
    arm = {0: never(), 1: falling(150), 2: falling(120)}
    base = {0: never(), 1: falling(300), 2: falling(250)}
    found = speed_up(arm, base, level=1.0, better="lower")
    assert found.num == (2, 2)
    assert found.bound == "exact"
    assert found.note is not None
    assert found.note.startswith("1 of 3 pairs")
    nothing = speed_up({0: never()}, {0: never()}, level=1.0, better="lower")
    assert nothing.ratio is None
    assert nothing.bound is None
    assert nothing.note is not None
    both_first = speed_up({0: at_once()}, {0: at_once()}, level=1.0, better="lower")
    assert both_first.ratio is None


def test_bounds_on_both_sides_have_no_number() -> None:
    found = speed_up({0: never(), 1: falling(9e2)}, {0: falling(300), 1: never()}, level=1.0, better="lower")
    assert found.ratio is None
    assert found.note is not None
    assert "in different seeds" in found.note


def test_unpaired_curves_that_may_not_be_left_out_have_no_number() -> None:
    found = speed_up({0: never(), 1: falling(100)}, {2: never(), 3: falling(100)}, level=1.0, better="lower")
    assert found.ratio is None
    assert found.note is not None
    assert "not paired" in found.note


def test_the_level_reached_before_the_first_point_is_a_bound() -> None:
    found = speed_up({0: at_once(), 1: at_once()}, {0: falling(100), 1: falling(200)}, level=1.0, better="lower")
    assert found.bound == "at least"
    assert found.ratio == pytest.approx((10 * 20) ** 0.5)


def test_one_curve_an_arm_gives_a_ratio_without_interval() -> None:
    found = speed_up({0: falling(100)}, {0: falling(200)}, level=1.0, better="lower")
    assert found.ratio == pytest.approx(2)
    assert found.p is None
    assert found.low is None
    assert found.note is not None
    assert "no interval" in found.note


def test_crossings_that_do_not_vary_give_no_interval() -> None:
    curves = {0: falling(100), 1: falling(100)}
    found = speed_up(curves, {0: falling(200), 1: falling(200)}, level=1.0, better="lower")
    assert found.ratio == pytest.approx(2)
    assert found.p is None


def test_a_crossing_at_0_images_is_no_ratio() -> None:
    found = speed_up({0: [(0, 0.5), (10, 0.1)]}, {0: falling(100)}, level=1.0, better="lower")
    assert found.ratio is None


def test_the_level_is_finite() -> None:
    with pytest.raises(ValueError, match="level"):
        speed_up({}, {}, level=math.nan, better="lower")
