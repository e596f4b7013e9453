import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from debiasctl.evaluation.metrics import neighbours
from debiasctl.evaluation.metrics.neighbours import manifolds, nearest_distances


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def radius(x, k):
    return np.sort(cdist(x, x), axis=1)[:, k]  # column 0 is the distance to itself


@pytest.mark.parametrize("rows", [7, 1024])
@pytest.mark.parametrize("sizes, shift", [((60, 60), 0.0), ((45, 80), 0.7), ((80, 31), 3.0)])
def test_manifolds_by_brute_force(sizes, shift, rows, monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", rows)
    fake, real = normal(sizes[0], 4, seed=1) + shift + 100, normal(sizes[1], 4, seed=2) + 100
    found = manifolds(fake, real)
    between = cdist(real, fake)
    np.testing.assert_array_equal(found.inside, (between <= radius(real, 3)[:, None]).any(axis=0))
    np.testing.assert_array_equal(found.found, (between <= radius(fake, 3)[None]).any(axis=1))
    np.testing.assert_allclose(found.density, (between <= radius(real, 5)[:, None]).sum(axis=0) / 5, rtol=1e-14)
    np.testing.assert_array_equal(found.covered, between.min(axis=1) <= radius(real, 5))


def test_manifolds_far_apart_and_the_same():
    x = normal(50, 3)
    same, apart = manifolds(x, x), manifolds(x + 1000, x)
    assert same.inside.min() == same.found.min() == same.covered.min() == 1
    assert apart.inside.max() == apart.found.max() == apart.density.max() == apart.covered.max() == 0


def test_copies_of_a_real_image_that_is_there_often_are_inside():
    real = torch.cat([normal(20, 40), normal(1, 40, seed=3).expand(9, -1)]) * 1000
    fake = real[-1:].expand(8, -1)
    assert manifolds(fake, real).inside.tolist() == [1.0] * 8


@pytest.mark.parametrize("rows", [3, 1024])
def test_nearest_distances(rows, monkeypatch):
    monkeypatch.setattr(neighbours, "_ROWS", rows)
    x, y = normal(20, 6, seed=1), normal(50, 6, seed=2)
    np.testing.assert_allclose(nearest_distances(x, y), cdist(x, y).min(axis=1), rtol=1e-9)
    assert nearest_distances(y[:5], y).tolist() == [0.0] * 5
