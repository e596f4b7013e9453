import math

import pytest
import torch

from debiasctl.models.power_profiles import (
    Profile,
    ProfileBasis,
    gamma_of,
    inner_products,
    power_decay,
)


@pytest.mark.parametrize("length, gamma", [(0.05, 16.97), (0.10, 6.94)])
def test_the_papers_exponents(length: float, gamma: float) -> None:
    assert round(gamma_of(length), 2) == gamma


@pytest.mark.parametrize("length", [0.001, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.28])
def test_the_exponent_gives_the_length(length: float) -> None:
    g = gamma_of(length)
    assert g >= 0
    assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(length, rel=1e-12)


def test_the_longest_is_the_plain_mean() -> None:
    assert gamma_of(1 / math.sqrt(12)) == pytest.approx(0, abs=1e-12)
    assert power_decay(0.0, 7) == pytest.approx(6 / 7)
    assert power_decay(5.0, 1) == 0


def test_inner_products_are_integrals() -> None:
    profiles = [Profile(10, 2.5), Profile(10, 0.0), Profile(7, 6.94), Profile(3.5, 16.97)]
    points = (torch.arange(1_000_000, dtype=torch.float64) + 0.5) / 100_000  # of [0, 10]
    values = torch.stack([torch.where(points <= t, (g + 1) * (points / t) ** g / t, 0.0) for t, g in profiles])
    torch.testing.assert_close(inner_products(profiles, profiles), values @ values.T / 100_000, rtol=1e-6, atol=0)


def stored(number: int, *, last: float = 4000) -> list[Profile]:
    return [Profile(last * (k + 1) / number, gamma_of(length)) for k in range(number) for length in (0.05, 0.10)]


@pytest.mark.parametrize("length", [0.03, 0.07, 0.15, 0.2])
def test_the_weights_are_the_best_of_sum_one(length: float) -> None:
    """Moving along any direction that keeps the sum makes the fit worse: the gradient has no part in it."""
    profiles, target = stored(16), Profile(4000, gamma_of(length))
    weights = ProfileBasis(profiles).fit(target).weights
    assert weights.dtype == torch.float64
    assert float(weights.sum()) == pytest.approx(1, abs=1e-9)
    gram, products = inner_products(profiles, profiles), inner_products(profiles, [target])[:, 0]
    gradient = gram @ weights - products
    assert float((gradient - gradient.mean()).norm()) < 1e-9 * float(products.norm())


def test_the_residual_is_the_distance_of_profiles() -> None:
    profiles, target = stored(8), Profile(4000, gamma_of(0.15))
    fit = ProfileBasis(profiles).fit(target)
    points = torch.arange(400_000, dtype=torch.float64) / 100 + 0.005

    def values(profile: Profile) -> torch.Tensor:
        t, g = profile
        return torch.where(points <= t, (g + 1) * (points / t) ** g / t, 0.0)

    wanted = values(target)
    made = sum(weight * values(profile) for weight, profile in zip(fit.weights.tolist(), profiles, strict=True))
    assert fit.residual == pytest.approx(float((made - wanted).norm() / wanted.norm()), rel=1e-3)
    assert 0.02 < fit.residual < 0.05


def test_a_stored_profile_is_itself() -> None:
    profiles = stored(32)
    fit = ProfileBasis(profiles).fit(profiles[41])
    assert fit.residual == 0
    assert fit.weights.tolist() == [float(number == 41) for number in range(64)]


def test_more_snapshots_fit_better() -> None:
    target = Profile(4000, gamma_of(0.2))
    residuals = [ProfileBasis(stored(number)).fit(target).residual for number in (4, 8, 16, 32, 64)]
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[0] > 0.1
    assert residuals[-1] < 0.003
