"""Products of mean gradients, their shares and intervals."""

import numpy as np
import pytest

from debiasctl.analysis.parts.reasons import products
from debiasctl.analysis.parts.reasons.products import Products

GROUPS, PARTS, WIDTH = 6, 3, 40


def gradients(seed: int = 0, *, signal: float = 1.0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    mean = signal * np.random.default_rng(99).normal(size=(PARTS, WIDTH))
    return mean + draw.normal(size=(GROUPS, PARTS, WIDTH))


def pair_mean(rows: np.ndarray) -> np.ndarray:
    """The mean product of different groups' gradients, in a loop."""
    found = [rows[j] @ rows[k].T for j in range(len(rows)) for k in range(len(rows)) if j != k]
    return np.mean(found, axis=0)


def test_products_leave_out_a_groups_with_itself_and_any_group() -> None:
    rows = gradients()
    found = Products(rows)
    assert np.allclose(found.moments(None).products, pair_mean(rows))
    assert np.allclose(found.moments(None).variances, rows.var(axis=0, ddof=1).sum(axis=1))
    for group in range(GROUPS):
        rest = np.delete(rows, group, axis=0)
        assert np.allclose(found.moments(group).products, pair_mean(rest))
        assert np.allclose(found.moments(group).variances, rest.var(axis=0, ddof=1).sum(axis=1))


def test_products_are_unbiased_where_plain_ones_are_not() -> None:
    mean = np.random.default_rng(99).normal(size=(PARTS, WIDTH))
    found = np.mean([Products(gradients(seed)).moments(None).products for seed in range(300)], axis=0)
    assert np.allclose(found, mean @ mean.T, atol=1.5)
    plain = np.mean([np.square(gradients(seed).mean(axis=0)).sum(axis=1) for seed in range(300)], axis=0)
    assert (plain - np.diag(mean @ mean.T) > 4).all()  # WIDTH / GROUPS


def test_shares_sum_to_1_and_are_those_of_the_vectors() -> None:
    rows = np.repeat(gradients(signal=3.0)[:1], GROUPS, axis=0)  # no noise at all
    moments = Products(rows).moments(None)
    mean, whole = rows[0], rows[0].sum(axis=0)
    assert products.projections(moments) == pytest.approx(mean @ whole / (whole @ whole), rel=1e-9)
    norms = np.linalg.norm(mean, axis=1)
    assert products.norm_shares(moments) == pytest.approx(norms / norms.sum(), rel=1e-9)
    assert products.cosines(moments)[0, 1] == pytest.approx(mean[0] @ mean[1] / norms[0] / norms[1], rel=1e-9)
    noisy = Products(gradients()).moments(None)
    for shares in (
        products.projections(noisy),
        products.norm_shares(noisy),
        products.square_shares(noisy, [0.2, 0.3, 0.5], 4),
    ):
        assert shares.sum() == pytest.approx(1, abs=1e-12)


def test_signal_and_squares_are_those_of_single_images() -> None:
    draw = np.random.default_rng(1)
    groups, size, share = 100, 100, np.array([0.2, 0.3, 0.5])
    mean = draw.normal(size=(PARTS, WIDTH))
    single = mean + 3 * draw.normal(size=(groups, size, PARTS, WIDTH))  # of an image whose t is in the bin
    moments = Products((share[:, None] * single).mean(axis=1)).moments(None)
    squares = np.square(mean).sum(axis=1)
    assert products.signal_to_noise(moments, size) == pytest.approx(squares / (9 * WIDTH), rel=0.2)
    expected = share * (squares + 9 * WIDTH)
    assert products.square_shares(moments, share, size) == pytest.approx(expected / expected.sum(), rel=0.05)
    whole = float(np.square(share @ mean).sum())
    assert products.noise_scale(moments, share, size)[0] == pytest.approx(expected.sum() / whole - 1, rel=0.1)


def test_intervals_cover_and_a_gradient_of_noise_has_no_shares() -> None:
    mean = np.random.default_rng(99).normal(size=(PARTS, WIDTH))
    truth = (mean @ mean.sum(axis=0)) / np.square(mean.sum(axis=0)).sum()
    found = [Products(gradients(seed)).jackknifed(products.projections) for seed in range(200)]
    covered = np.mean([(one.low <= truth) & (truth <= one.high) for one in found])
    assert 0.92 <= covered <= 0.985
    nothing = products.known_norm_shares(Products(gradients(7, signal=0.0)))
    assert np.isnan(nothing.value).all()
    weak = gradients(3)
    weak[:, 0] -= mean[0]  # the first part is noise
    shares = products.known_norm_shares(Products(weak))
    assert shares.low[0] == 0
    assert shares.high[0] > 0


def test_intervals_of_many_pairs_are_wider() -> None:
    found = Products(gradients())
    one, all_at_once = found.jackknifed(products.cosines), found.jackknifed(products.cosines, pairs=45)
    assert (all_at_once.high - all_at_once.low)[0, 1] > (one.high - one.low)[0, 1] > 0
