"""Pooled and paired differences against scipy's t tests, and their identities."""

import math

import numpy as np
import pytest
from scipy import stats

from debiasctl.comparison.statistics.estimates import Estimate
from debiasctl.comparison.statistics.paired import correlation, covariance, paired, pairs_decide, shared
from debiasctl.comparison.statistics.pooled import Spread, alike, pooled, pooled_spread, summary

A = (0.84, 0.91, 0.79, 0.88, 0.97)
B = (1.18, 1.02, 1.11, 1.3, 1.07)


def of_two(arm: tuple[float, ...], reference: tuple[float, ...]) -> Estimate:
    sides = summary(arm), summary(reference)
    spread = pooled_spread(sides)
    assert spread is not None
    return pooled(*sides, spread)


@pytest.mark.parametrize(("arm", "reference"), [(A, B), (A[:2], B[:2]), (A[:2], B), (A, B[:3])])
def test_the_pooled_t_test_is_students(arm: tuple[float, ...], reference: tuple[float, ...]) -> None:
    expected = stats.ttest_ind(arm, reference, equal_var=True)
    found = of_two(arm, reference)
    assert found.p() == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval() == pytest.approx(expected.confidence_interval(0.95), rel=1e-9)
    assert found.interval(0.2) == pytest.approx(expected.confidence_interval(0.8), rel=1e-9)


def test_the_paired_t_test_is_students() -> None:
    expected = stats.ttest_rel(A, B)
    found = paired(A, B)
    assert found is not None
    assert found.p() == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.interval() == pytest.approx(expected.confidence_interval(0.95), rel=1e-9)
    assert paired(A, B, sign=-1) == paired(A, tuple(-value for value in B))


def test_a_p_value_is_of_the_null_that_is_asked_for() -> None:
    found = of_two(A, B)
    shifted = stats.ttest_ind(A, np.array(B) - 0.1, equal_var=True)
    assert found.p(-0.1) == pytest.approx(shifted.pvalue, rel=1e-9)


def test_a_third_arm_adds_its_degrees_of_freedom_and_its_variance() -> None:
    third = (1.0, 1.2, 0.9)
    spread = pooled_spread([summary(values) for values in (A, B, third)])
    squares = sum(np.var(values, ddof=1) * (len(values) - 1) for values in (A, B, third))
    assert spread == Spread(pytest.approx(squares / 10), 10)


def test_single_runs_add_nothing_to_the_spread() -> None:
    assert pooled_spread([summary((1.0,)), summary((2.0,))]) is None
    assert pooled_spread([summary(A), summary((99.0,))]) == Spread(pytest.approx(np.var(A, ddof=1)), 4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e9])
def test_a_spread_of_rounding_alone_is_none(value: float) -> None:
    rounded = (value, value + value * 1e-15, value)
    assert pooled_spread([summary(rounded), summary(rounded)]) is None
    assert paired(rounded, (value,) * 3) is None
    assert correlation(rounded, A[:3]) is None


def test_pairs_are_of_the_seeds_that_both_arms_have() -> None:
    assert shared({3: 1.0, 1: 2.0, 7: 3.0}, {7: 30.0, 3: 10.0, 9: 0.0}) == ([1.0, 3.0], [10.0, 30.0])


@pytest.mark.parametrize(
    ("pairs", "larger", "decides"),
    [(4, 4, False), (5, 5, True), (5, 6, True), (5, 7, False), (8, 10, True), (2, 2, False)],
)
def test_numbers_of_seeds_alone_decide_on_pairing(pairs: int, larger: int, decides: bool) -> None:
    assert pairs_decide(pairs, larger, least=5) is decides


def test_correlation_and_covariance_are_pearsons() -> None:
    assert correlation(A, B) == pytest.approx(np.corrcoef(A, B)[0, 1])
    assert covariance(A, B) == pytest.approx(np.cov(A, B)[0, 1])
    assert correlation(A[:2], B[:2]) is None


def test_arms_whose_figures_are_far_off_do_not_share_the_spread() -> None:
    pair = summary((1.0, 1.1)), summary((1.5, 1.4))
    near = [mean for mean in (0.5, 0.53, 1.2, 2.8, 3.0, 30.0) if alike(summary((mean, mean)), *pair)]
    assert near == [0.53, 1.2, 2.8]
    assert alike(summary((30.0, 30.0)), summary((-0.1, 0.1)), pair[0])  # a mean of 0 gives no factor


def test_freedom_need_not_be_whole() -> None:
    found = Estimate(1.0, 0.5, 5.5)
    assert found.p() == pytest.approx(2 * stats.t.sf(2, 5.5))
    assert math.dist(found.interval(), stats.t(5.5, 1.0, 0.5).interval(0.95)) < 1e-9
