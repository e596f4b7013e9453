"""Variances shrunk over metrics: Smyth's moments, recovered, and their cap."""

import numpy as np
import pytest
from scipy.special import digamma, polygamma

from debiasctl.comparison.statistics.borrowed import MOST_FREEDOM, Prior, _trigamma_inverse, fitted_prior
from debiasctl.comparison.statistics.pooled import Spread


def test_the_shrunk_variance_is_the_weighted_mean() -> None:
    found = Prior(2.0, 1.5).shrunk(Spread(0.4, 4), 0.1)
    assert found == Spread(pytest.approx((2 * 1.5 * 0.1 + 4 * 0.4) / 6), 6.0)


@pytest.mark.parametrize("value", [1e-8, 1e-3, 0.1, 1.0, 7.0, 1e4, 1e9])
def test_the_inverse_of_the_trigamma_function(value: float) -> None:
    assert polygamma(1, _trigamma_inverse(value)) == pytest.approx(value, rel=1e-3)


def test_the_prior_is_recovered_from_variances_that_follow_it() -> None:
    generator = np.random.default_rng(0)
    d0, s02, nu = 1.6, 3.0, 8
    true = s02 * d0 / generator.chisquare(d0, 20_000)
    observed = true * generator.chisquare(nu, 20_000) / nu
    prior = fitted_prior([(Spread(float(value) * 0.01, nu), 0.01) for value in observed])
    assert prior is not None
    assert prior.freedom == pytest.approx(d0, rel=0.05)
    assert prior.scale == pytest.approx(s02, rel=0.08)


def test_the_prior_never_weighs_more_than_its_cap() -> None:
    """Equal variances allow any weight; then the scale is their mean without the bias of its logarithm."""
    prior = fitted_prior([(Spread(0.3, 4), 0.1)] * 5)
    assert prior is not None
    assert prior.freedom == MOST_FREEDOM
    assert prior.scale == pytest.approx(3 * np.exp(-digamma(2)) * 2)


def test_a_prior_of_more_freedom_is_capped_and_keeps_its_scale() -> None:
    generator = np.random.default_rng(0)
    d0, s02, nu = 10.0, 3.0, 8
    true = s02 * d0 / generator.chisquare(d0, 20_000)
    observed = true * generator.chisquare(nu, 20_000) / nu
    prior = fitted_prior([(Spread(float(value), nu), 1.0) for value in observed])
    assert prior is not None
    assert prior.freedom == MOST_FREEDOM
    assert prior.scale == pytest.approx(s02, rel=0.05)


def test_two_metrics_say_nothing_about_scatter() -> None:
    assert fitted_prior([(Spread(0.3, 4), 0.1), (Spread(0.2, 4), 0.1)]) is None
    assert fitted_prior([(Spread(0.3, 4), 0.1), (Spread(0.2, 4), 0.1), (Spread(0.2, 4), 0.0)]) is None
