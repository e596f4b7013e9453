import math

import numpy as np
import pytest
import scipy.stats

from debiasctl.evaluation.uncertainty.intervals import (
    GROUPS,
    MIN_IMAGES,
    MIN_PER_DIMENSION,
    Interval,
    Jackknife,
    difference_interval,
    jackknife,
    jackknife_interval,
    refusal,
    squared_interval,
    with_skewness,
)
from debiasctl.evaluation.uncertainty.shares import share_interval

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(3, 2, GROUPS)


def leaving_out(function, values):
    return lambda left_out: float(function(np.delete(values, list(left_out))))


def test_the_jackknife_of_a_mean_is_the_values_themselves():
    found = jackknife(leaving_out(np.mean, VALUES))
    np.testing.assert_allclose(found.pseudo_values, VALUES, rtol=1e-10)
    np.testing.assert_allclose(found.interactions, 0, atol=1e-9)


def test_a_bias_in_one_over_n_goes_away():
    found = jackknife(leaving_out(np.var, VALUES))  # divides by n
    assert jackknife_interval(found).estimate == pytest.approx(np.var(VALUES, ddof=1), rel=1e-10)


def test_the_interval_of_a_mean_is_students():
    interval = jackknife_interval(jackknife(leaving_out(np.mean, VALUES)), level=0.9)
    low, high = scipy.stats.ttest_1samp(VALUES, 0).confidence_interval(0.9)
    assert (interval.low, interval.estimate, interval.high) == pytest.approx((low, VALUES.mean(), high))
    assert interval.level == 0.9


def test_half_of_what_is_counted_twice_is_taken_off():
    pseudo = list(VALUES)
    small = [0.1 * value for value in RANDOM.normal(0, 1, GROUPS)]
    variance = np.var(pseudo, ddof=1) / GROUPS - np.var(small, ddof=1) / (4 * GROUPS**2)
    interval = jackknife_interval(Jackknife(pseudo, small))
    assert interval.high - interval.low == pytest.approx(2 * scipy.stats.t.ppf(0.975, GROUPS - 1) * variance**0.5)


def test_no_more_than_a_quarter_of_the_variance_is_taken_off():
    plain = jackknife_interval(Jackknife(list(VALUES), [0.0] * GROUPS))
    narrow = jackknife_interval(Jackknife(list(VALUES), [1000 * value for value in VALUES]))
    assert narrow.high - narrow.low == pytest.approx(math.sqrt(0.75) * (plain.high - plain.low))


def test_of_a_difference_all_of_it_is_taken_off_and_at_most_70_percent_of_the_variance():
    none = Jackknife([0.0] * GROUPS, [0.0] * GROUPS)
    for size, share in ((0.1, None), (1000, 0.3)):
        interactions = [size * value for value in VALUES]
        interval = difference_interval(none, Jackknife(list(VALUES), interactions))
        plain = np.var(VALUES, ddof=1) / GROUPS
        left = plain * share if share else plain - np.var(interactions, ddof=1) / (2 * GROUPS**2)
        assert interval.high - interval.low == pytest.approx(2 * scipy.stats.t.ppf(0.975, GROUPS - 1) * left**0.5)


def test_interactions_know_the_variance_of_a_pure_product():
    """Of the squared length of a mean whose expectation is 0, nearly half of the variance is counted twice."""
    jackknifed, extra = [], []
    for values in RANDOM.normal(0, 1, (60, GROUPS, 50)):

        def squared(left_out, values=values):
            return float((np.delete(values, list(left_out), axis=0).mean(axis=0) ** 2).sum())

        found = jackknife(squared)
        jackknifed.append(np.var(found.pseudo_values, ddof=1) / GROUPS)
        extra.append(np.var(found.interactions, ddof=1) / (2 * GROUPS**2))
    assert np.mean(extra) / np.mean(jackknifed) == pytest.approx(0.45, abs=0.05)


def test_differences_of_squares_near_0_are_not_too_wide():
    """Of two products of means, whose expectations are 0: 98.8 % were covered with at most half taken off."""
    random = np.random.default_rng(3)
    held = 0
    for values in random.normal(0, 1, (600, 2, GROUPS, 4)):
        found = [
            jackknife(lambda left_out, one=one: float((np.delete(one, list(left_out), axis=0).mean(axis=0) ** 2).sum()))
            for one in values
        ]
        interval = difference_interval(*found)
        held += interval.low <= 0 <= interval.high
    assert 0.94 * 600 <= held <= 0.98 * 600


def test_the_interval_of_a_difference_is_that_of_the_paired_values():
    other = VALUES + RANDOM.normal(1, 0.1, GROUPS)
    first, second = (jackknife(leaving_out(np.mean, values)) for values in (VALUES, other))
    interval = difference_interval(first, second)
    low, high = scipy.stats.ttest_rel(other, VALUES).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((low, high))
    assert interval.high - interval.low < 0.2


def test_differences_need_equal_groups():
    with pytest.raises(ValueError, match="zip"):
        difference_interval(Jackknife([1.0] * 20, [0.0] * 20), Jackknife([1.0] * 19, [0.0] * 19))


@pytest.mark.parametrize("successes, num", [(0, 300), (30, 300), (300, 300)])
def test_shares_are_wilsons(successes, num):
    z = scipy.stats.norm.ppf(0.975)
    share = successes / num
    centre = (share + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * math.sqrt(share * (1 - share) / num + z**2 / (4 * num**2))
    interval = share_interval(successes, num)
    assert interval.estimate == share
    assert (interval.low, interval.high) == pytest.approx((centre - half, centre + half), abs=1e-12)


def test_what_is_refused():
    assert refusal(MIN_IMAGES) is None
    assert f"at least {MIN_IMAGES}" in refusal(MIN_IMAGES - 1)
    assert refusal(64 * MIN_PER_DIMENSION, 64) is None
    assert "per dimension" in refusal(64 * MIN_PER_DIMENSION - 1, 64)


@pytest.mark.parametrize("estimate", [-0.4, 0.5, 4.0])
def test_the_limits_of_a_squared_distance(estimate):
    """The distances d whose own error, excess + slope · d, just reaches the estimate, with very many directions."""
    pseudo = list(VALUES - VALUES.mean() + estimate)
    interactions = [3 * value for value in RANDOM.normal(0, 1, GROUPS)]
    variance, t = np.var(pseudo, ddof=1) / GROUPS, scipy.stats.t.ppf(0.975, GROUPS - 1)
    excess = min(np.var(interactions, ddof=1) / (2 * GROUPS**2), variance / 2)
    slope = (variance - excess) / (max(estimate, 0) + math.sqrt(2 * excess))
    found = squared_interval(Jackknife(pseudo, interactions), 1e9)
    plain = jackknife_interval(Jackknife(pseudo, interactions))
    if estimate >= 0:
        for limit in (found.low, found.high):
            assert (limit - estimate) ** 2 == pytest.approx(t**2 * (excess + slope * limit))
    assert plain.low < found.low < estimate < plain.high < found.high


def test_few_directions_keep_the_lower_limit_of_the_jackknife():
    """The excess of ν directions of equal noise is 2/ν of their squared bias; at ten, both kinds count alike."""
    pseudo = list(VALUES - VALUES.mean() + 1)
    interactions = [0.3 * value for value in RANDOM.normal(0, 1, GROUPS)]
    excess = np.var(interactions, ddof=1) / (2 * GROUPS**2)
    values = Jackknife(pseudo, interactions)
    none, many = (squared_interval(values, 1 + bias).low for bias in (-0.1, 1e9))
    assert none == jackknife_interval(values).low
    assert squared_interval(values, 1 + math.sqrt(5 * excess)).low == pytest.approx((none + many) / 2)


def test_the_limits_where_nothing_varies():
    found = squared_interval(Jackknife([0.0] * GROUPS, [0.0] * GROUPS), 0.0)
    assert (found.low, found.high) == (0, 0)


@pytest.mark.parametrize("dimension, shift", [(4, 0.075), (60, 0.045)])
def test_limits_near_0_hold_the_truth(dimension, shift):
    """Of the squared length of a mean some two standard deviations from 0.

    The upper limits of the jackknife itself lie too low.
    """
    random = np.random.default_rng(4)
    truth, missed = dimension * shift**2, {"above": 0, "below": 0, "above the usual": 0, "below the usual": 0}
    for values in random.normal(shift, 1, (300, GROUPS, 10, dimension)):

        def squared(left_out, values=values):
            return float((np.delete(values, list(left_out), axis=0).mean(axis=(0, 1)) ** 2).sum())

        found = jackknife(squared)
        for interval, name in ((squared_interval(found, squared(())), ""), (jackknife_interval(found), " the usual")):
            missed[f"above{name}"] += truth > interval.high
            missed[f"below{name}"] += truth < interval.low
    assert missed["above"] + 5 <= missed["above the usual"]
    assert 0.93 * 300 <= 300 - missed["above"] - missed["below"] <= 0.98 * 300


T = scipy.stats.t.ppf(0.975, GROUPS - 1)


def linear(values, *, slope=0.0, estimate=0.0, excess=0.0):
    """A figure's jackknife, and its interval where the variance grows with the figure by `slope`."""
    values = np.asarray(values) - np.mean(values) + estimate
    variance = np.var(values, ddof=1) / GROUPS - excess
    reach = T**2 * slope / 2 + T * math.sqrt(variance + T**2 * slope**2 / 4)
    own = Interval(estimate, estimate - T * math.sqrt(variance), estimate + reach, 0.95)
    wave = np.cos(2 * np.pi * 3 * np.arange(GROUPS) / GROUPS)
    interactions = wave * math.sqrt(2 * GROUPS**2 * excess / np.var(wave, ddof=1))
    return own, Jackknife(values.tolist(), interactions.tolist())


def skewed_difference(first, second):
    plain = difference_interval(first[1], second[1])
    return plain, with_skewness(plain, first, second)


def test_a_difference_of_independent_distances_reaches_as_far_as_the_variance_at_its_limit():
    """Where sets share nothing: each has its part of the difference's variance, and its slope by that part."""
    a, b = (np.cos(2 * np.pi * k * np.arange(GROUPS) / GROUPS) for k in (1, 2))  # without correlation
    first, second = linear(a, slope=0.1, estimate=0.5), linear(2 * b, slope=0.7, estimate=0.6, excess=0.02)
    plain, found = skewed_difference(first, second)
    slope = 0.7 * 0.8 - 0.1 * 0.2
    variance = (np.var(a, ddof=1) + np.var(2 * b, ddof=1)) / GROUPS - 0.02
    assert (found.high - 0.1) ** 2 == pytest.approx(T**2 * (variance + slope * (found.high - 0.1)))
    assert found.low == pytest.approx(plain.low)
    assert found.p == pytest.approx(plain.p)  # 0 lies on the other side
    _, turned = skewed_difference(second, first)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))
    assert turned.p == pytest.approx(found.p)


def test_a_difference_in_proportion_is_as_skewed_as_the_distance():
    """With all noise shared and b = 1.1 a, the difference is 0.1 a, and reaches 0.1 times as far on either side."""
    first, second = (linear(factor * VALUES, slope=0.5 * factor, estimate=factor) for factor in (1.0, 1.1))
    _, found = skewed_difference(first, second)
    assert found.high - 0.1 == pytest.approx(0.1 * (first[0].high - 1))
    assert 0.1 - found.low == pytest.approx(0.1 * (1 - first[0].low))


def test_equally_skewed_distances_and_means_leave_a_difference_as_it_is():
    a, b = (np.cos(2 * np.pi * k * np.arange(GROUPS) / GROUPS) for k in (1, 2))
    for slope in (0.0, 0.7):
        plain, found = skewed_difference(linear(a, slope=slope), linear(b, slope=slope))
        assert (found.low, found.high, found.p) == pytest.approx((plain.low, plain.high, plain.p))
    still = linear(np.zeros(GROUPS))
    assert skewed_difference(still, linear(a, slope=0.7))[1] == difference_interval(still[1], linear(a)[1])


def test_the_p_value_of_a_skewed_difference_agrees_with_its_interval():
    """It is above 0.05 where the longer side reaches over 0."""
    a, b = (np.cos(2 * np.pi * k * np.arange(GROUPS) / GROUPS) for k in (1, 2))
    first, second = linear(a, slope=0.7), linear(0.1 * b, estimate=0.38)
    plain, found = skewed_difference(first, second)
    assert found.low < 0 < plain.low
    assert plain.p < 0.05 < found.p


def test_the_held_out_images_add_their_variance():
    found = Jackknife(list(VALUES), [0.0] * GROUPS)
    t, variance = scipy.stats.t.ppf(0.975, GROUPS - 1), np.var(VALUES, ddof=1) / GROUPS
    none = Jackknife([0.0] * GROUPS, [0.0] * GROUPS)
    for interval in (jackknife_interval(found, effect=0.7), difference_interval(none, found, effect=0.7)):
        assert interval.high - interval.low == pytest.approx(2 * t * math.sqrt(variance + 0.49))


def test_the_p_value_of_a_difference_is_students():
    other = VALUES + RANDOM.normal(0.2, 0.5, GROUPS)
    first, second = (jackknife(leaving_out(np.mean, values)) for values in (VALUES, other))
    assert difference_interval(first, second).p == pytest.approx(scipy.stats.ttest_rel(other, VALUES).pvalue)
    summed = difference_interval(first, second, sign=-1)
    assert summed.estimate == pytest.approx(np.mean(VALUES + other))
