import numpy as np
import pytest
import scipy.linalg
import torch

from debiasctl.errors import EvaluationError
from debiasctl.evaluation.metrics import distances
from debiasctl.evaluation.metrics.distances import (
    Moments,
    covariance_root,
    frechet_distance,
    gaussian_moments,
    kernel_self_mean,
)
from debiasctl.evaluation.uncertainty.jackknife import KernelSums


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(dimension, seed=0):
    return torch.linalg.qr(normal(dimension, dimension, seed=seed))[0]


def covariance(dimension, seed):
    factor = normal(dimension, 2 * dimension, seed=seed)
    return factor @ factor.T / (2 * dimension)


def test_moments_are_numpys():
    features = normal(50, 7) + 3
    mean, cov = gaussian_moments(features.float())
    assert mean.dtype == cov.dtype == torch.float64
    np.testing.assert_allclose(mean, features.float().double().numpy().mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(cov, np.cov(features.float().double().numpy(), rowvar=False), rtol=1e-10, atol=1e-14)


def test_moments_keep_their_precision_far_from_zero():
    features = normal(100, 3)
    torch.testing.assert_close(gaussian_moments(features + 1e6)[1], gaussian_moments(features)[1], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_moments_that_come_in_batches(offset):
    features = normal(203, 6).exp() + offset
    whole, streamed, first, second = (Moments(6) for _ in range(4))
    whole.add(features)
    for part in torch.split(features, 17):
        streamed.add(part.float() if offset == 0 else part)
    streamed.add(features[:0])
    first.add(features[:50])
    second.add(features[50:])
    tolerance = 1e-5 if offset == 0 else 1e-9
    for other in (streamed, first.merged(second), second.merged(first)):
        assert other.num == 203
        np.testing.assert_allclose(other.mean, whole.mean, rtol=tolerance)
        np.testing.assert_allclose(other.covariance(), whole.covariance(), rtol=tolerance, atol=tolerance)
    rest = whole.without(first)
    assert (rest.num, first.num) == (153, 50)
    np.testing.assert_allclose(rest.mean, second.mean, rtol=1e-9)
    np.testing.assert_allclose(rest.covariance(), second.covariance(), rtol=1e-6, atol=1e-8)


def test_moments_refuse_other_features():
    moments = Moments(3)
    moments.add(torch.ones(1, 3))
    with pytest.raises(EvaluationError, match="at least 2 images"):
        moments.covariance()
    with pytest.raises(EvaluationError, match=r"\[N, 3\]"):
        moments.add(torch.ones(2, 4))
    with pytest.raises(EvaluationError, match="NaN"):
        moments.add(torch.full((2, 3), torch.nan))


@pytest.mark.parametrize("decay", [5.0, 15.0, 25.0, 40.0])
def test_small_eigenvalues_keep_their_digits(decay):
    """Roots that are known, of spectra so steep that roots of eigenvalues of the product would be wrong in the 6th."""
    values = torch.exp(-decay * torch.arange(300, dtype=torch.float64) / 300)
    basis = rotation(300)
    near = torch.linalg.qr(torch.eye(300, dtype=torch.float64) + 2e-4 * normal(300, 300, seed=3))[0] @ basis
    roots = [vectors * values.sqrt() @ vectors.T for vectors in (basis, near)]
    overlap = np.linalg.svd((roots[0] @ roots[1]).numpy(), compute_uv=False).sum()
    zero = torch.zeros(300)
    found = frechet_distance(zero, roots[0] @ roots[0], zero, roots[1] @ roots[1])
    assert found == pytest.approx(2 * values.sum().item() - 2 * overlap, rel=1e-7)


def test_a_root_that_is_known_is_used():
    m1, m2, s1, s2 = normal(20, seed=1), normal(20, seed=2), covariance(20, 3), covariance(20, 4)
    root = covariance_root(s2)
    torch.testing.assert_close(root @ root, s2)
    assert frechet_distance(m1, s1, m2, s2, root2=root) == frechet_distance(m1, s1, m2, s2)
    assert frechet_distance(m1, s1, m2, s2, root2=2 * root) < frechet_distance(m1, s1, m2, s2)


@pytest.mark.parametrize("m1, s1, m2, s2", [(0.0, 1.0, 2.0, 3.0), (-1.0, 0.5, -1.0, 0.0), (5.0, 0.0, 1.0, 0.0)])
def test_frechet_in_one_dimension(m1, s1, m2, s2):
    tensors = [torch.tensor([m1]), torch.tensor([[s1**2]]), torch.tensor([m2]), torch.tensor([[s2**2]])]
    assert frechet_distance(*tensors) == pytest.approx((m1 - m2) ** 2 + (s1 - s2) ** 2, abs=1e-12)


@pytest.mark.parametrize("rank", [1, 7, 12])
def test_frechet_of_commuting_covariances_also_singular(rank):
    basis = rotation(12)
    a, b = normal(12, seed=1).square(), normal(12, seed=2).square()
    a[rank:] = 0
    b[: 12 - rank] = 0
    zero = torch.zeros(12)
    expected = (a.sqrt() - b.sqrt()).square().sum().item()
    found = frechet_distance(zero, basis @ a.diag() @ basis.T, zero, basis @ b.diag() @ basis.T)
    assert found == pytest.approx(expected, rel=1e-12)


def test_frechet_of_two_points_each():
    x, y = normal(2, 50, seed=1), normal(2, 50, seed=2)
    u, v = (x[0] - x[1]) / 2**0.5, (y[0] - y[1]) / 2**0.5  # covariances u u^T and v v^T
    expected = (x.mean(0) - y.mean(0)).square().sum() + u @ u + v @ v - 2 * (u @ v).abs()
    assert frechet_distance(*gaussian_moments(x), *gaussian_moments(y)) == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("dimension", [1, 3, 32, 100])
def test_frechet_is_scipys_and_clean_fids(dimension, monkeypatch):
    import cleanfid.fid

    square_root = scipy.linalg.sqrtm
    monkeypatch.setattr(  # SciPy 1.18 has no disp any more
        cleanfid.fid.linalg, "sqrtm", lambda a, disp=True: square_root(a) if disp else (square_root(a), 0.0)
    )
    m1, m2 = normal(dimension, seed=1), normal(dimension, seed=2)
    s1, s2 = covariance(dimension, 3), covariance(dimension, 4)
    found = frechet_distance(m1, s1, m2, s2)
    root = square_root(s1.numpy() @ s2.numpy()).real
    by_hand = ((m1 - m2) ** 2).sum().item() + np.trace(s1.numpy() + s2.numpy() - 2 * root)
    assert found == pytest.approx(by_hand, rel=1e-10)
    assert found == pytest.approx(
        cleanfid.fid.frechet_distance(m1.numpy(), s1.numpy(), m2.numpy(), s2.numpy()), rel=1e-10
    )


def test_frechet_invariances():
    x, y = normal(40, 6, seed=1), normal(60, 6, seed=2) * 1.5 + 0.3
    value = frechet_distance(*gaussian_moments(x), *gaussian_moments(y))
    turned = [gaussian_moments(3 * features @ rotation(6, seed=5) + 7) for features in (x, y)]
    assert frechet_distance(*gaussian_moments(y), *gaussian_moments(x)) == pytest.approx(value, rel=1e-12)
    assert frechet_distance(*turned[0], *turned[1]) == pytest.approx(9 * value, rel=1e-10)


@pytest.mark.parametrize("num, dimension", [(200, 5), (10, 64)])
def test_frechet_of_equals_is_zero(num, dimension):
    moments = gaussian_moments(normal(num, dimension))
    assert 0 <= frechet_distance(*moments, *moments) < 1e-11


def test_frechet_falls_with_the_number_of_real_images(digits):
    pixels = digits.train.array.flatten(1).double()
    full = gaussian_moments(pixels)
    few, more, most = (frechet_distance(*gaussian_moments(pixels[:num]), *full) for num in (60, 300, 1100))
    assert few > 3 * more > 9 * most


@pytest.mark.parametrize(
    "features, message",
    [
        (torch.zeros(1, 3), "at least 2 images"),
        (torch.zeros(5), r"\[N, D\]"),
        (torch.tensor([[0.0], [float("nan")]]), "NaN"),
        (torch.tensor([[0.0], [float("inf")]]), "NaN or infinity"),
    ],
)
def test_features_that_have_no_moments(features, message):
    for function in (gaussian_moments, kernel_self_mean):
        with pytest.raises(EvaluationError, match=message):
            function(features)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mean2": torch.zeros(2)}, "one length"),
        ({"mean1": torch.zeros(3, 1)}, "one length"),
        ({"cov2": torch.eye(2)}, "3x3"),
        ({"cov1": torch.full((3, 3), float("nan"))}, "NaN"),
        ({"cov1": -torch.eye(3)}, "eigenvalue"),
    ],
)
def test_frechet_refuses_what_is_no_gaussian(change, message):
    good = {"mean1": torch.zeros(3), "cov1": torch.eye(3), "mean2": torch.zeros(3), "cov2": torch.eye(3)}
    with pytest.raises(EvaluationError, match=message):
        frechet_distance(**(good | change))


def kernel_distance(x, y):
    return KernelSums(x, y, y_self=kernel_self_mean(y)).distance()


def kernel_by_hand(x, y):
    k = lambda a, b: (float(a @ b) / len(a) + 1) ** 3  # noqa: E731
    same = [
        sum(k(a, b) for i, a in enumerate(s) for j, b in enumerate(s) if i != j) / len(s) / (len(s) - 1) for s in (x, y)
    ]
    return same[0] + same[1] - 2 * sum(k(a, b) for a in x for b in y) / len(x) / len(y)


@pytest.mark.parametrize("block", [3, 2048])
@pytest.mark.parametrize("sizes", [(10, 10), (7, 12), (2, 9)])
def test_kernel_distance_pair_by_pair(sizes, block, monkeypatch):
    monkeypatch.setattr(distances, "_BLOCK", block)
    x, y = normal(sizes[0], 4, seed=1), normal(sizes[1], 4, seed=2) + 1
    assert kernel_distance(x, y) == pytest.approx(kernel_by_hand(x.numpy(), y.numpy()), rel=1e-12)
    assert kernel_distance(x, y) == pytest.approx(kernel_distance(y, x), rel=1e-12)


def test_kernel_distance_is_clean_fids_over_the_full_sets(digits):
    from cleanfid.fid import kernel_distance as clean_fid

    pixels = digits.train.array.flatten(1).double() / 127.5 - 1
    x, y = pixels[:300], pixels[300:600]
    expected = clean_fid(y.numpy(), x.numpy(), num_subsets=1, max_subset_size=300)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-9)


def test_kernel_distance_is_unbiased():
    draws = [kernel_distance(normal(20, 2, seed=2 * seed), normal(30, 2, seed=2 * seed + 1)) for seed in range(400)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 20
    assert min(draws) < 0


@pytest.mark.parametrize("per_class", [2, 5, 50])
def test_pairs_count_by_class_where_class_counts_are_even(per_class):
    """Three images, each several times: the mean over independent pairs of them is known, and the plain one too low."""
    centres = torch.tensor([[3.0, 0.0], [-1.0, 2.0], [0.0, -2.0]], dtype=torch.float64)
    classes = torch.arange(3 * per_class) % 3
    truth = float(((centres @ centres.T / 2 + 1) ** 3).mean())
    assert kernel_self_mean(centres[classes], classes) == pytest.approx(truth, rel=1e-12)
    assert kernel_self_mean(centres[classes]) < truth - 0.1 / per_class


def test_a_class_with_a_single_image_joins_the_others_that_have_one():
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    singles = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 3])
    joined = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2])
    assert kernel_self_mean(x, singles) == kernel_self_mean(x, joined)
    assert kernel_self_mean(x, torch.arange(12)) == kernel_self_mean(x, torch.zeros(12))
