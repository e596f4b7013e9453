"""Each operation against the paper's formula, and that it keeps magnitudes: a wrong constant is found."""

import math

import numpy as np
import pytest
import reference
import torch
from debiasctl_edm2 import magnitude
from measuring import magnitude as rms
from torch import Tensor

LARGE = 400_000


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---------------------------------------------------------------- magnitudes, each to half a percent


def silu_keeps_it() -> None:
    assert rms(magnitude.mp_silu(normal(LARGE))) == pytest.approx(1, abs=5e-3)


def features_have_it() -> None:
    torch.manual_seed(0)
    features = magnitude.FourierFeatures(2000)
    assert rms(features(normal(200, seed=1).float())) == pytest.approx(1, abs=5e-3)


def sums_keep_it() -> None:
    a, b = normal(LARGE), normal(LARGE, seed=1)
    for t in (0, 0.3, 0.5, 1):
        out = magnitude.mp_sum(a, b, t)
        assert rms(out) == pytest.approx(1, abs=5e-3)
        assert (out * b).mean() == pytest.approx(t / math.sqrt((1 - t) ** 2 + t**2), abs=5e-3)


def concatenations_keep_it() -> None:
    a, b = normal(100, 30, 50), normal(100, 90, 50, seed=1)
    for t in (0.3, 0.5):
        out = magnitude.mp_cat(a, b, t)
        assert rms(out) == pytest.approx(1, abs=1e-2)
        shares = rms(out[:, 30:]) ** 2 * 90 / (rms(out[:, :30]) ** 2 * 30)  # whatever the numbers of channels are
        assert shares == pytest.approx((t / (1 - t)) ** 2, rel=2e-2)


def layers_keep_it() -> None:
    torch.manual_seed(0)
    conv = magnitude.Conv(64, 64, 3).double()
    with torch.no_grad():
        conv.weight.mul_(7)  # the length of the stored vectors does not matter
        interior = conv(normal(16, 64, 18, 18))[:, :, 1:-1, 1:-1]
        assert rms(interior) == pytest.approx(1, abs=5e-3)
        assert rms(magnitude.Linear(64, 256).double()(normal(4000, 64))) == pytest.approx(1, abs=5e-3)
        embedded = magnitude.ClassEmbedding(10, 4000)(torch.arange(10))
        assert rms(embedded) == pytest.approx(1, abs=5e-3)


CHECKS = (silu_keeps_it, features_have_it, sums_keep_it, concatenations_keep_it, layers_keep_it)


@pytest.mark.parametrize("check", CHECKS)
def test_an_operation_keeps_the_magnitude(check) -> None:
    check()


@pytest.mark.parametrize(
    ("check", "name", "wrong"),
    [
        (silu_keeps_it, "SILU_MAGNITUDE", 0.6),
        (silu_keeps_it, "SILU_MAGNITUDE", 1.0),
        (features_have_it, "FEATURE_SCALE", 1.4),
        (features_have_it, "FEATURE_SCALE", 1.0),
        (layers_keep_it, "EPS", 0.1),
    ],
)
def test_a_wrong_constant_is_found(check, name: str, wrong: float, monkeypatch) -> None:
    monkeypatch.setattr(magnitude, name, wrong)
    with pytest.raises(AssertionError):
        check()


# ---------------------------------------------------------------- formulas


def test_silus_magnitude_is_its_integral() -> None:
    z = np.linspace(-12, 12, 200_001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    exact = math.sqrt(np.trapezoid((z / (1 + np.exp(-z))) ** 2 * density, z))
    assert exact == pytest.approx(magnitude.SILU_MAGNITUDE, abs=5e-4)


def test_operations_against_numpy() -> None:
    a, b = normal(3, 4, 2, 2), normal(3, 6, 2, 2, seed=1)
    close = {"rtol": 1e-12, "atol": 1e-14}
    np.testing.assert_allclose(magnitude.mp_silu(a), reference.silu(a.numpy()), **close)
    np.testing.assert_allclose(magnitude.mp_sum(a, b[:, :4], 0.3), reference.mixed(a.numpy(), b[:, :4].numpy(), 0.3),
                               **close)  # fmt: skip
    np.testing.assert_allclose(magnitude.mp_cat(a, b, 0.5), reference.joined(a.numpy(), b.numpy()), **close)
    np.testing.assert_allclose(magnitude.pixel_norm(a, 1), reference.normalized(a.numpy(), 1), **close)
    np.testing.assert_allclose(magnitude.unit_rows(a) / 4, reference.unit(a.numpy()), **close)


def test_gradients_are_orthogonal_to_the_weight_vectors() -> None:
    torch.manual_seed(0)
    conv = magnitude.Conv(8, 5, 3).double()
    (conv(normal(4, 8, 6, 6)) ** 3).sum().backward()
    gradient, weight = conv.weight.grad.flatten(1), conv.weight.detach().flatten(1)
    cosine = (gradient * weight).sum(dim=1) / gradient.norm(dim=1) / weight.norm(dim=1)
    assert gradient.norm() > 1
    assert cosine.abs().max() < 1e-3  # the EPS of Alg. 1 leaves about 1e-4


def test_a_row_of_zeros_gives_zeros_and_a_finite_gradient() -> None:
    conv = magnitude.Conv(2, 3, 1)
    with torch.no_grad():
        conv.weight[1] = 0
    out = conv(torch.ones(1, 2, 4, 4))
    out.sum().backward()
    assert not out[:, 1].any()
    assert conv.weight.grad.isfinite().all()
    conv.normalize_()
    assert not conv.weight[1].any()


def test_half_precision_norms_are_computed_in_single() -> None:
    x = torch.full((1, 4, 2, 2), 300.0, dtype=torch.float16)  # whose square float16 cannot hold
    out = magnitude.pixel_norm(x, 1)
    assert out.dtype == torch.float16
    torch.testing.assert_close(out, torch.ones_like(x), rtol=1e-3, atol=0)
