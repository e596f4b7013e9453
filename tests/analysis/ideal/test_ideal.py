"""Ideal denoisers against plain sums and against what Monte Carlo finds."""

import math

import pytest
import torch
from torch import Tensor

from debiasctl.analysis.ideal import ClosedForm, Ideal, TrainingImages, training_images
from debiasctl.analysis.ideal.training_images import ImageSet
from debiasctl.api import ArraySplit, GaussianMixture, Level

CPU = torch.device("cpu")


def level(log_snr: float) -> Level:
    return Level(0.0, math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr))))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def orthonormal(size: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=generator(seed), dtype=torch.float64))[0]


def mixture(num: int = 3, shape: tuple[int, int, int] = (2, 4, 3)) -> GaussianMixture:
    def uniform(*sizes: int, seed: int) -> Tensor:
        return torch.rand(*sizes, generator=generator(seed), dtype=torch.float64)

    weights = uniform(num, seed=1) + 0.3
    return GaussianMixture(
        weights / weights.sum(),
        (uniform(num, *shape, seed=2) - 0.5) * 0.6,
        uniform(num, *shape, seed=3) * 0.05,
        (orthonormal(shape[0], 4), orthonormal(shape[1], 5), orthonormal(shape[2], 6)),
        torch.arange(num) % 2,
    )


def drawn(density: GaussianMixture, num: int, seed: int) -> tuple[Tensor, Tensor]:
    which = torch.multinomial(density.weights, num, replacement=True, generator=generator(seed))
    noise = torch.randn(num, *density.means.shape[1:], generator=generator(seed + 1), dtype=torch.float64)
    return density.means[which] + density.images(density.variances[which].sqrt() * noise), which


def noised(x0: Tensor, at: Level, seed: int) -> Tensor:
    return at.alpha * x0 + at.sigma * torch.randn(x0.shape, generator=generator(seed), dtype=torch.float64)


def dense(density: GaussianMixture, at: Level, k: int) -> tuple[Tensor, Tensor]:
    """A component's mean and covariance over x_t, from matrices."""
    channels, rows, columns = density.basis
    basis = torch.kron(channels, torch.kron(rows, columns))
    covariance = basis.T @ torch.diag(density.variances[k].flatten()) @ basis
    size = len(covariance)
    return at.alpha * density.means[k].flatten(), at.alpha**2 * covariance + at.sigma**2 * torch.eye(
        size, dtype=torch.float64
    )


@pytest.mark.parametrize("log_snr", [-6.0, -1.0, 3.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_likelihood_is_that_of_dense_matrices_and_the_score_its_gradient(log_snr: float, mirrored: bool) -> None:
    density, at = mixture(), level(log_snr)
    ideal = ClosedForm(density, mirrored=mirrored)
    x_t = noised(drawn(density, 5, 7)[0], at, 8).requires_grad_()
    views = [x_t, x_t.flip(-1)] if mirrored else [x_t]
    found = ideal.log_likelihood(x_t, at)
    expected = torch.stack([
        torch.distributions.MultivariateNormal(*dense(density, at, k)).log_prob(view.flatten(1))
        + density.weights[k].log() - math.log(len(views))
        for k in range(3) for view in views
    ]).logsumexp(0)  # fmt: skip
    assert torch.allclose(found, expected, rtol=1e-10)
    (gradient,) = torch.autograd.grad(expected.sum(), x_t)
    assert torch.allclose(ideal.score(x_t.detach(), at), gradient, rtol=1e-8, atol=1e-9)
    tweedie = (x_t.detach() + at.sigma**2 * gradient) / at.alpha
    assert torch.allclose(ideal(x_t.detach(), at).mean, tweedie, atol=1e-9)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("log_snr", [-8.0, -3.0, 0.0, 4.0, 12.0])
def test_the_measured_error_of_the_closed_form_is_its_posterior_variance(
    log_snr: float, mirrored: bool, labelled: bool
) -> None:
    density, at, num = mixture(), level(log_snr), 4000
    ideal = ClosedForm(density, mirrored=mirrored)
    x0, which = drawn(density, num, 10)
    assert density.classes is not None
    found = ideal(noised(x0, at, 11), at, density.classes[which] if labelled else None)
    gap = (x0 - found.mean).square().flatten(1).mean(dim=1) - found.variance
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(num)
    assert bool(torch.isinf(found.neighbours).all())


def test_without_signal_and_without_noise_the_closed_form_is_the_law_and_the_image() -> None:
    density = mixture()
    x0 = drawn(density, 6, 12)[0]
    at_noise = ClosedForm(density)(x0, Level(0.0, 0.0, 1.0))
    expected = torch.einsum("k,kchw->chw", density.weights, density.means)
    assert torch.allclose(at_noise.mean, expected.expand_as(x0), atol=1e-12)
    clean = ClosedForm(density)(x0, Level(0.0, 1.0, 0.0))
    assert torch.allclose(clean.mean, x0, atol=1e-9)
    assert float(clean.variance.abs().max()) < 1e-12


def images(num: int, shape: tuple[int, int, int] = (3, 4, 5)) -> Tensor:
    return torch.randint(0, 256, (num, *shape), generator=generator(1), dtype=torch.uint8)


def direct(x_t: Tensor, known: Tensor, at: Level) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and neighbours by a plain softmax over distances."""
    flat = (known.float() / 127.5 - 1).double().flatten(1)
    squares = (x_t.flatten(1)[:, None] - at.alpha * flat).square().sum(dim=2)
    weights = torch.softmax(-squares / (2 * at.sigma**2), dim=1)
    mean = weights @ flat
    variance = (weights * (flat - mean[:, None]).square().mean(dim=2)).sum(dim=1)
    return mean.view(x_t.shape), variance, 1 / weights.square().sum(dim=1)


def training(split: ArraySplit, *, mirrored: bool = False, conditional: bool = False) -> Ideal:
    return TrainingImages(ImageSet.of(split, mirrored=mirrored, conditional=conditional, device=CPU))


@pytest.mark.parametrize("log_snr", [-9.0, -4.0, -1.0, 2.0, 9.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_full_sum_is_the_direct_softmax(log_snr: float, mirrored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_images, "_ROWS", 17)
    monkeypatch.setattr(training_images, "_QUERIES", 4)
    known, at = images(100), level(log_snr)
    x_t = noised((known[:9].float() / 127.5 - 1).double(), at, 3)
    found = training(ArraySplit(known), mirrored=mirrored)(x_t, at)
    every = torch.cat([known, known.flip(-1)]) if mirrored else known
    mean, variance, neighbours = direct(x_t, every, at)
    assert torch.allclose(found.mean, mean, atol=1e-10)
    assert torch.allclose(found.variance, variance, atol=1e-10)
    assert torch.allclose(found.neighbours, neighbours, rtol=1e-9)
    assert found.se is None


def test_labels_restrict_the_sum_to_a_class_and_no_class_means_all() -> None:
    known, at = images(60), level(-3.0)
    targets = torch.arange(60) % 3
    x_t = noised((known[:8].float() / 127.5 - 1).double(), at, 3)
    labels = torch.tensor([0, 1, 2, 3, 0, 0, 3, 2])  # 3 is no class
    found = training(ArraySplit(known, targets), conditional=True)(x_t, at, labels)
    for number, label in enumerate(labels.tolist()):
        own = known if label == 3 else known[targets == label]
        mean, _, neighbours = direct(x_t[number : number + 1], own, at)
        assert torch.allclose(found.mean[number], mean[0], atol=1e-10)
        assert torch.allclose(found.neighbours[number], neighbours[0])
