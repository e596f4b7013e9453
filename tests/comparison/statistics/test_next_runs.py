"""The probability that the next run is better."""

import numpy as np
import pytest
from scipy import stats

from debiasctl.comparison.statistics.estimates import Estimate
from debiasctl.comparison.statistics.probability import NextRuns, nearer_probability, probability_intervals


def test_it_is_the_predictive_t() -> None:
    """With n runs an arm, the next difference varies by 2 s² and its mean by 2 s²/n."""
    n, s = 3, 0.2
    found = NextRuns(Estimate(0.3, s * (2 / n) ** 0.5, 4), s * 2**0.5)
    assert found.probability == pytest.approx(stats.t.cdf(0.3 / (s * (2 + 2 / n) ** 0.5), 4))


def test_it_turns_round_with_the_sign() -> None:
    there, back = (NextRuns(Estimate(sign * 0.3, 0.1, 4), 0.25) for sign in (1, -1))
    assert there.probability + back.probability == pytest.approx(1)
    (low, high), (back_low, back_high) = probability_intervals([there, back])
    assert (1 - back_high, 1 - back_low) == pytest.approx((low, high))
    assert low < there.probability < high


def test_limits_are_those_of_the_noncentral_t() -> None:
    n, s = 4, 0.2
    error = s * (2 / n) ** 0.5
    ((low, high),) = probability_intervals([NextRuns(Estimate(0.3, error, 6), s * 2**0.5)])
    for limit, tail in ((low, 0.975), (high, 0.025)):
        effect = stats.norm.ppf(limit) * 2**0.5 / (2 / n) ** 0.5
        assert stats.nct.cdf(0.3 / error, 6, effect) == pytest.approx(tail, abs=1e-6)


def test_no_contrast_has_no_interval() -> None:
    assert probability_intervals([]) == []


def test_limits_grow_in_proportion_far_out() -> None:
    """At 1e6 standard errors with two degrees of freedom, s may be wrong by a factor of √(χ²/2)."""
    ((low, high),) = probability_intervals([NextRuns(Estimate(1.0, 1e-6, 2), 1.0)])
    factors = np.sqrt(stats.chi2.ppf([0.025, 0.975], 2) / 2)
    assert (low, high) == pytest.approx(stats.norm.cdf(factors), abs=1e-4)


def test_nearer_to_0_by_simulation() -> None:
    """b is nearer than a where the next b - a and b + a have opposite signs."""
    generator = np.random.default_rng(0)
    a, b = 1.5 + generator.standard_normal(200_000), 0.5 + generator.standard_normal(200_000)
    sure = 1e9  # degrees of freedom: the parameters are known
    parts = [NextRuns(Estimate(value, 1e-9, sure), 2**0.5) for value in (-1.0, 2.0)]
    assert nearer_probability(*parts) == pytest.approx(np.mean(np.abs(b) < np.abs(a)), abs=0.005)
