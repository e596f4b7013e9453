"""Equivalence: two one-sided tests, by hand."""

import pytest
from scipy import stats

from debiasctl.comparison.statistics.equivalence import equivalence_p, margin_of
from debiasctl.comparison.statistics.estimates import Estimate
from debiasctl.comparison.statistics.nearness import Nearness


@pytest.mark.parametrize("value", [0.02, -0.02, 0.0, 0.2])
def test_it_is_twice_the_larger_of_two_one_sided_tests(value: float) -> None:
    error, freedom, margin = 0.02, 4, 0.1
    tests = stats.t.sf((value + margin) / error, freedom), stats.t.cdf((value - margin) / error, freedom)
    assert equivalence_p(Estimate(value, error, freedom), margin) == pytest.approx(min(1, 2 * max(tests)))


@pytest.mark.parametrize("margin", [0.05, 0.0755, 0.0756, 0.2])
def test_it_is_at_most_5_percent_just_if_the_interval_lies_within_the_margin(margin: float) -> None:
    found = Estimate(-0.02, 0.02, 4)
    low, high = found.interval()
    assert (equivalence_p(found, margin) <= 0.05) == (-margin <= low and high <= margin)


def test_of_distances_from_0_either_interval_within_the_margin_is_enough() -> None:
    wide, narrow = Estimate(3.0, 1.0, 4), Estimate(0.01, 0.01, 4)
    for found in (Nearness(wide, narrow), Nearness(narrow, wide)):
        assert equivalence_p(found, 0.1) == equivalence_p(narrow, 0.1)
        low, high = found.interval()
        assert low >= -0.1
        assert high <= 0.1


def test_only_a_figure_above_0_gives_a_margin() -> None:
    assert margin_of(0.8, 0.05) == pytest.approx(0.04)
    assert margin_of(0.0, 0.05) is None
    assert margin_of(-0.8, 0.05) is None
    assert margin_of(0.8, 0.0) is None
