import numpy as np
import pytest
import scipy.stats
import torch

from debiasctl.evaluation.uncertainty.jackknife import Division
from debiasctl.evaluation.uncertainty.kernel_limits import kernel_limits
from debiasctl.evaluation.uncertainty.squared_length import (
    probability_below,
    squared_distance_limits,
    squared_length_limits,
    unified_tails,
)

SPREAD = np.array([1.0, 0.1, 0.02])
DRAWS = 2000


@pytest.mark.parametrize("noncentrality", [0.0, 1.0, 30.0])
def test_the_law_of_one_square_is_chi_squares(noncentrality):
    law = scipy.stats.ncx2(1, noncentrality) if noncentrality else scipy.stats.chi2(1)
    for share in (0.025, 0.5, 0.975):
        found = probability_below(np.array(law.ppf(share)), np.ones(1), np.array([noncentrality]))
        assert found == pytest.approx(share, abs=0.012)


@pytest.mark.parametrize("mean", [(0, 0, 0), (0.5, 0.1, 0), (0, 0, 0.3), (0.2, 0.5, 0.5), (8, 1, 1)])
def test_limits_of_a_length_hold_the_truth(mean):
    """Near 0, where an interval of a jackknife holds it in 80 %, and far."""
    random = np.random.default_rng(1)
    drawn = np.array(mean) + random.normal(size=(DRAWS, 3)) * np.sqrt(SPREAD)
    low, high = squared_length_limits(drawn, np.broadcast_to(np.diag(SPREAD), (DRAWS, 3, 3)))
    truth = float(np.square(mean).sum())
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.985
    assert (high > 0).all()


def test_a_length_without_noise_is_known():
    low, high = squared_length_limits([1.0, 2.0], np.zeros((2, 2)))
    assert (low, high) == (5.0, 5.0)


def test_limits_do_not_depend_on_units():
    one = squared_length_limits([1.0, 0.2, 0.1], np.diag(SPREAD))
    other = squared_length_limits([1e-3, 2e-4, 1e-4], np.diag(SPREAD) * 1e-6)
    np.testing.assert_allclose(np.array(other) * 1e6, one, rtol=1e-6)


@pytest.mark.parametrize("length", [0.0, 1.0, 4.0, 100.0])
@pytest.mark.parametrize("along", [0, 5, None])
def test_limits_in_many_dimensions_hold_the_truth(length, along):
    """Where the noise of all dimensions adds up to a squared length of several times the largest direction's.

    The mean lies along the noisiest direction, along a quieter one, or as chance makes it.
    """
    random = np.random.default_rng(2)
    draws, spread = DRAWS // 5, np.arange(1, 41) ** -1.0
    shape = spread / spread.sum() if along is None else np.eye(40)[along]
    drawn = np.sqrt(length * shape) + random.normal(size=(draws, 40)) * np.sqrt(spread)
    estimate = np.square(drawn).sum(axis=1) - spread.sum()
    low, high, _ = squared_distance_limits(estimate, drawn, np.broadcast_to(np.diag(spread), (draws, 40, 40)))
    assert 0.9 <= np.mean((low <= length) & (length <= high)) <= 0.98
    assert (high > 0).all()


@pytest.mark.parametrize("figure, estimate", [(0.26, -3), (0.4, -2), (0.81, -1), (1.64, 0), (2.64, 1)])
def test_tails_are_those_of_feldman_and_cousins(figure, estimate):
    """The upper limits of their table of 90 % intervals (1998, table X), and one of its lower limits."""
    low, high = unified_tails(np.array([figure, 1.37, 0.0]), level=0.9)
    np.testing.assert_allclose(low + high, 0.1)
    assert figure - scipy.stats.norm.isf(low[0]) == pytest.approx(estimate, abs=0.05)
    assert 1.37 + scipy.stats.norm.isf(high[1]) == pytest.approx(3, abs=0.01)
    assert low[2] == 0


def test_limits_of_a_kernel_distance():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(300, 3, generator=generator, dtype=torch.float64)
    x = torch.randn(400, 3, generator=generator, dtype=torch.float64) + 1
    low, high = kernel_limits(x, y, 3.0, division=Division.of(400))
    assert 0 < low < 3 < high < 20


def test_an_impossible_kernel_distance_has_no_limits():
    """As of images that overlap the reference: far below what independent images have."""
    y = torch.randn(300, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert kernel_limits(y, y, -25.0, division=Division.of(300)) is None


def test_half_a_standard_deviation_off_0_all_of_the_tail_is_the_upper_one():
    total = np.linspace(6.6, 7.9, 21)  # of one direction, so that it does not matter where the mean lies
    low, _, _ = squared_distance_limits(total - 1, np.sqrt(total)[:, None], np.ones((21, 1, 1)))
    distance = low / np.sqrt(2 + 4 * low)
    near = (low > 0) & (distance > 0.35) & (distance < 0.5)
    assert near.any()
    assert probability_below(total[near], np.ones((1,)), low[near][:, None]) == pytest.approx(0.95, abs=1e-6)
    assert unified_tails(distance[near])[1].max() < 0.05 - 1e-5  # those of Feldman and Cousins are not
