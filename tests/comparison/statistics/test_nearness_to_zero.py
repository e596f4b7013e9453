"""Which of two means is nearer to 0."""

import itertools

import numpy as np
import pytest

from debiasctl.comparison.statistics.estimates import Estimate
from debiasctl.comparison.statistics.nearness import Nearness, nearness


@pytest.mark.parametrize(("a", "b"), list(itertools.product((-2.0, -0.5, 0.0, 0.5, 2.0), repeat=2)))
def test_it_is_the_difference_of_sizes(a: float, b: float) -> None:
    assert nearness(b - a, b + a) == pytest.approx(abs(b) - abs(a))
    assert nearness(a - b, a + b) == pytest.approx(-nearness(b - a, b + a))


@pytest.mark.parametrize(("d", "s"), list(itertools.product((-3.0, -0.1, 0.0, 0.2, 4.0), repeat=2)))
def test_the_interval_is_the_range_over_both_intervals(d: float, s: float) -> None:
    found = Nearness(Estimate(d, 0.3, 4), Estimate(s, 0.5, 4))
    grids = [np.linspace(*part.interval(), 101) for part in (found.difference, found.total)]
    values = [nearness(x, y) for x in grids[0] for y in grids[1]]
    assert found.interval() == pytest.approx((min(values), max(values)))


@pytest.mark.parametrize(("d", "s"), list(itertools.product((-3.0, -0.7, 0.9, 4.0), repeat=2)))
def test_the_interval_leaves_out_0_just_if_p_is_below_the_level(d: float, s: float) -> None:
    found = Nearness(Estimate(d, 0.3, 4), Estimate(s, 0.3, 4))
    low, high = found.interval()
    assert (low > 0 or high < 0) == (found.p() < 0.05)
    assert found.p() == max(found.difference.p(), found.total.p())


def test_two_shifts_of_opposite_signs_and_one_size_are_equally_near() -> None:
    """Their difference is far from 0, and says nothing."""
    found = Nearness(Estimate(4.0, 0.1, 4), Estimate(0.0, 0.1, 4))
    assert found.value == 0
    assert found.p() == 1
