import numpy as np
import pytest
import torch

from debiasctl.evaluation import copies
from debiasctl.evaluation.uncertainty.intervals import jackknife_interval
from debiasctl.evaluation.uncertainty.jackknife import Division
from debiasctl.evaluation.uncertainty.shares import reaching, share_interval

M, N, DRAWS = 150, 2000, 120


def distances(seed, num):
    """As of one law for fresh and held-out images."""
    return torch.from_numpy(np.random.default_rng(seed).gamma(4, size=num))


def outcomes(num=M):
    for seed in range(DRAWS):
        yield copies.copies(distances(seed, N), distances(10_000 + seed, num), Division.of(N))


def test_the_share_that_fresh_images_are_expected_to_have():
    """It is no 0.01: with M held-out images it is (0.01 M + 0.99)/(M + 1)."""
    found = [distances(seed, M) for seed in range(3000)]
    shares = [np.mean(distances(99, 20_000).numpy() < float(fresh.quantile(0.01))) for fresh in found[:1000]]
    expected = copies.expected(found[0])
    assert expected == pytest.approx((0.01 * M + 0.99) / (M + 1))
    assert np.mean(shares) == pytest.approx(expected, abs=4 * np.std(shares) / 1000**0.5 + 0.0015)
    assert expected > 0.016


@pytest.mark.parametrize(("num", "least"), [(150, 0.3), (1000, 0.2)])
def test_intervals_of_memorised_shares_know_that_held_out_images_are_few(num, least):
    """Misses lie on either side; with a normal error of the threshold nearly all lay below."""
    missed = {"with": [0, 0], "without": [0, 0]}
    for found in outcomes(num):
        outcome = found["memorised_share"]
        own = share_interval(int(outcome.ones.sum()), N)
        for name, interval in (("with", reaching(own, N, *outcome.reach)), ("without", own)):
            missed[name][0] += outcome.expected < interval.low
            missed[name][1] += outcome.expected > interval.high
    assert max(missed["with"]) <= 0.06 * DRAWS
    assert sum(missed["without"]) > least * DRAWS


def test_the_limits_of_the_threshold_are_order_statistics():
    """5.54 and 18.36 of 1,000 ordered distances; below 186 images not even the nearest one is a lower limit."""
    fresh = torch.arange(1.0, 1001, dtype=torch.float64)[torch.randperm(1000)]
    x = torch.tensor([5.5, 5.6, 18.3, 18.4], dtype=torch.float64).repeat(25)
    assert copies.copies(x, fresh, Division.of(100))["memorised_share"].reach == (0.25, 0.75)
    few = torch.arange(1.0, 101, dtype=torch.float64)
    assert copies.copies(x / 1000, few, Division.of(100))["memorised_share"].reach == (0, 1)


def test_intervals_of_gaps_know_that_held_out_images_are_few():
    held = {"with": 0, "without": 0}
    for found in outcomes():
        outcome = found["nearest_train_gap"]
        for name, effect in (("with", outcome.effect), ("without", 0.0)):
            interval = jackknife_interval(outcome.jackknife(), effect=effect)
            held[name] += interval.low <= 0 <= interval.high
    assert held["with"] >= 0.9 * DRAWS
    assert held["without"] < 0.7 * DRAWS


def test_the_effect_of_held_out_images_on_a_gap():
    x, fresh = distances(1, N), distances(2, M)
    outcome = copies.copies(x, fresh, Division.of(N))["nearest_train_gap"]
    gap = float(x.mean() / fresh.mean()) - 1
    assert outcome.effect**2 == pytest.approx((1 + gap) ** 2 * float(fresh.var()) / (M * float(fresh.mean()) ** 2))


def test_floors_are_of_one_half_beside_the_other():
    """Beside all of them the gap would be 0 and the share 0.01 whatever the images are."""
    fresh = torch.cat([distances(3, 200)[:, None], 0.5 * distances(4, 200)[:, None]], dim=1).flatten()
    found = copies.floors(fresh)
    assert found["nearest_train_gap"].value == pytest.approx(float(fresh[0::2].mean() / fresh[1::2].mean()) - 1)
    assert found["nearest_train_gap"].value > 0.5
    assert found["memorised_share"].num == 200
    assert copies.floors(fresh[:198]) == {}
