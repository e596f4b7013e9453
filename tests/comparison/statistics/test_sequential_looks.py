"""Alpha spending against published limits, and what it promises."""

import numpy as np
import pytest
from scipy import stats

from debiasctl.comparison.statistics.looks import STUDENT, Looks, nominal_levels, spending


def test_limits_are_the_published_ones() -> None:
    """Lan and DeMets' spending like O'Brien and Fleming's, five equal looks, two-sided 5 %."""
    limits = stats.norm.isf(np.array(nominal_levels((1, 2, 3, 4, 5), 0.05)) / 2)
    assert limits == pytest.approx([4.8769, 3.3570, 2.6803, 2.2898, 2.0310], abs=1e-4)


def test_two_looks_by_the_bivariate_normal() -> None:
    """What the first spends it spends alone; both together cross with 5 %."""
    first, second = nominal_levels((2, 4), 0.05)
    assert first == pytest.approx(spending(0.05, 0.5))
    z = stats.norm.isf(np.array([first, second]) / 2)
    both = stats.multivariate_normal([0, 0], [[1, 0.5**0.5], [0.5**0.5, 1]])
    box = both.cdf(z, lower_limit=-z)
    assert 1 - box == pytest.approx(0.05, abs=1e-4)


def test_everything_is_spent_at_the_end_and_nearly_nothing_at_first() -> None:
    assert spending(0.05, 1.0) == pytest.approx(0.05)
    assert spending(0.05, 0.2) < 1e-5
    assert spending(0.05, 0.5) == pytest.approx(4 * stats.norm.sf(stats.norm.isf(0.0125) / 0.5**0.5))


def test_one_look_is_an_ordinary_test() -> None:
    only = Looks((5,), 5)
    assert only.nominal(0.05) == pytest.approx(0.05)
    for p in (1e-5, 0.01, 0.05, 0.4):
        assert only.spent(p) == pytest.approx(p, rel=1e-6)
    assert only.spent(0.9) == 1.0


@pytest.mark.parametrize("at", [3, 4, 6, 9])
def test_a_p_value_is_at_the_level_just_where_the_look_spends_it(at: int) -> None:
    look = Looks((3, 4, 6, 9), at)
    for level in (0.05, 0.01):
        assert look.spent(look.nominal(level)) == pytest.approx(level, rel=0.01)
    assert look.spent(look.nominal(0.05) * 2) > 0.05 > look.spent(look.nominal(0.05) / 2)
    assert look.spent(0.0) <= 1e-6


def test_every_look_alone_has_a_smaller_level_than_the_whole() -> None:
    levels = [Looks((2, 3, 4, 5), at).nominal(0.05) for at in (2, 3, 4, 5)]
    assert levels == sorted(levels)
    assert levels[-1] < 0.05
    assert levels == list(nominal_levels((2, 3, 4, 5), STUDENT * 0.05))


@pytest.mark.parametrize(("planned", "at"), [((), 2), ((1, 2), 2), ((3, 3), 3), ((4, 3), 3), ((3, 5), 4)])
def test_looks_are_declared_beforehand(planned: tuple[int, ...], at: int) -> None:
    with pytest.raises(ValueError, match=r"looks|seeds"):
        Looks(planned, at)
