"""Ratios: the log scale against its closed form, and Fieller's sets against the pivot that defines them."""

import math

import numpy as np
import pytest
from scipy import stats

from debiasctl.comparison.statistics.estimates import Estimate
from debiasctl.comparison.statistics.paired import covariance
from debiasctl.comparison.statistics.ratios import Means, fieller, log_ratio, logarithms


def pivot(means: Means, ratio: float) -> float:
    """Fieller's statistic, t distributed at the true ratio."""
    variance = means.arm_variance - 2 * ratio * means.covariance + ratio**2 * means.reference_variance
    return (means.arm - ratio * means.reference) / math.sqrt(variance)


def test_a_log_ratio_is_the_exponential_of_a_difference() -> None:
    found = log_ratio(Estimate(math.log(2), 0.1, 4))
    half = stats.t.ppf(0.975, 4) * 0.1
    assert found.value == pytest.approx(2)
    assert (found.low, found.high) == pytest.approx((2 * math.exp(-half), 2 * math.exp(half)))
    assert log_ratio(Estimate(0.0, 1e6, 1)).high == math.inf


def test_only_figures_above_0_have_logarithms() -> None:
    assert logarithms([1.0, math.e]) == pytest.approx([0, 1])
    assert logarithms([1.0, 0.0]) is None
    assert logarithms([1.0, -1.0]) is None


@pytest.mark.parametrize("shared", [0.0, 0.02, -0.02])
def test_fiellers_limits_are_where_the_pivot_is_students_quantile(shared: float) -> None:
    means = Means(3.0, 2.0, 0.05, 0.04, shared, 6)
    found = fieller(means)
    quantile = stats.t.ppf(0.975, 6)
    assert found.value == 1.5
    assert found.note is None
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1.5 < found.high
    assert [pivot(means, found.low), pivot(means, found.high)] == pytest.approx([quantile, -quantile])


def test_with_an_exact_reference_fiellers_set_is_students_interval() -> None:
    found = fieller(Means(3.0, 2.0, 0.04, 0.0, 0.0, 5))
    assert (found.low, found.high) == pytest.approx(stats.t(5, 1.5, 0.1).interval(0.95))


def test_of_paired_figures_a_ratio_is_in_the_set_just_if_a_paired_t_test_does_not_reject_it() -> None:
    a, b = np.array([1.2, 0.9, 1.4, 1.1, 1.3]), np.array([0.7, 0.4, 0.9, 0.5, 0.8])
    means = Means(a.mean(), b.mean(), a.var(ddof=1) / 5, b.var(ddof=1) / 5, covariance(a, b) / 5, 4)
    found = fieller(means)
    assert found.low is not None
    assert found.high is not None
    for ratio in (found.low, found.high):
        assert stats.ttest_1samp(a - ratio * b, 0).pvalue == pytest.approx(0.05)


def test_a_reference_near_0_gives_all_but_a_gap() -> None:
    means = Means(3.0, 0.1, 0.04, 0.04, 0.0, 6)
    found = fieller(means)
    assert (found.low, found.high) == (None, None)
    assert found.note is not None
    assert found.note.startswith("unbounded")
    below, above = (
        float(word) for word in found.note.rstrip(")").split() if word.lstrip("-")[0].isdigit() and "." in word
    )
    quantile = stats.t.ppf(0.975, 6)
    for limit in (below, above):
        assert abs(pivot(means, limit)) == pytest.approx(quantile, rel=0.02)
    assert abs(pivot(means, (below + above) / 2)) > quantile
    assert abs(pivot(means, 10 * above)) < quantile


def test_two_means_near_0_give_every_ratio() -> None:
    found = fieller(Means(0.1, 0.1, 0.04, 0.04, 0.0, 6))
    assert (found.low, found.high) == (None, None)
    assert found.note is not None
    assert "unbounded" in found.note
    assert "below" not in found.note


def test_a_reference_of_0_has_no_ratio() -> None:
    found = fieller(Means(0.1, 0.0, 0.04, 0.04, 0.0, 6))
    assert found.value is None
    assert found.note is not None
    assert "is 0" in found.note


def test_a_reference_below_0_is_said() -> None:
    found = fieller(Means(-3.0, -2.0, 0.05, 0.04, 0.0, 6))
    mirrored = fieller(Means(3.0, 2.0, 0.05, 0.04, 0.0, 6))
    assert (found.value, found.low, found.high) == (mirrored.value, mirrored.low, mirrored.high)
    assert found.note is not None
    assert "below 0" in found.note


@pytest.mark.parametrize(("arm", "expected"), [(-3.0, "bounded"), (0.05, "from 0"), (3.0, "bounded")])
def test_sizes_of_ratios_are_those_of_the_set(arm: float, expected: str) -> None:
    means = Means(arm, 2.0, 0.05, 0.04, 0.0, 6)
    plain, sizes = fieller(means), fieller(means, absolute=True)
    assert plain.low is not None
    assert plain.high is not None
    assert sizes.value == abs(arm) / 2
    assert sizes.high == max(abs(plain.low), abs(plain.high))
    assert sizes.low == (0.0 if expected == "from 0" else min(abs(plain.low), abs(plain.high)))


def test_an_unbounded_set_of_sizes_keeps_its_lower_limit() -> None:
    found = fieller(Means(3.0, 0.1, 0.04, 0.04, 0.0, 6), absolute=True)
    assert found.low is not None
    assert found.low > 1
    assert found.high is None
    assert fieller(Means(0.1, 0.1, 0.04, 0.04, 0.0, 6), absolute=True).low == 0.0


def test_scaling_both_arms_leaves_the_ratio() -> None:
    one = fieller(Means(3.0, 2.0, 0.05, 0.04, 0.01, 6))
    scaled = fieller(Means(30.0, 20.0, 5.0, 4.0, 1.0, 6))
    assert (scaled.value, scaled.low, scaled.high) == pytest.approx((one.value, one.low, one.high))
