"""Ideal denoisers against plain sums and against what Monte Carlo finds."""

import math

import pytest
import torch
from torch import Tensor

from debiasctl.analysis.ideal import ClosedForm, Ideal, SomeImages, TooFewNeighboursError, image_set, training_images
from debiasctl.analysis.ideal.choice import of_images
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
    return of_images(split, mirrored=mirrored, conditional=conditional, device=CPU, seed=0)[0]


@pytest.mark.parametrize("log_snr", [-9.0, -4.0, -1.0, 2.0, 9.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_full_sum_is_the_direct_softmax(log_snr: float, mirrored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_set, "_BLOCK", 17 * 60)
    monkeypatch.setattr(training_images, "QUERIES", 4)
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


A_PART = 400 * 12  # values


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_a_parts_intervals_hold_the_full_sum(mirrored: bool, conditional: bool, known: bool) -> None:
    """95 % intervals of every value, of new images or of the set's own, over parts that are drawn again and again."""
    count, at = 3000, level(-2.0)
    smooth = torch.randn(count, 3, 1, 1, generator=generator(2)) + torch.randn(count, 1, 2, 2, generator=generator(3))
    stored = ((smooth * 0.25 + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    split = ArraySplit(stored, torch.arange(count) % 2)
    chosen = torch.arange(20) * 7
    x_t = noised((stored[chosen].float() / 127.5 - 1).double(), at, 4)
    labels = chosen % 2 if conditional else None
    images = torch.cat([stored, stored.flip(-1)]) if mirrored else stored
    classes = (torch.arange(count) % 2).repeat(2 if mirrored else 1)
    truth = torch.cat([
        direct(x_t[[n]], images[classes == n % 2] if conditional else images, at)[0] for n in range(20)
    ])  # fmt: skip
    held, away, seconds = [], [], []
    for seed in range(40):
        (ideal,) = of_images(
            split, mirrored=mirrored, conditional=conditional, device=CPU, seed=seed, most_values=A_PART
        )
        assert isinstance(ideal, SomeImages)
        found = ideal.estimate(x_t, at, labels, own=chosen if known else None)
        assert found.se is not None
        held.append(((found.mean - truth).abs() <= 1.96 * found.se).double().mean())
        away.append(((found.mean - truth) / found.se).mean())
        seconds.append(found.variance.mean())
    assert 0.92 <= float(torch.stack(held).mean()) <= 0.98
    assert abs(float(torch.stack(away).mean())) < 0.1
    full = torch.cat([
        direct(x_t[[n]], images[classes == n % 2] if conditional else images, at)[1] for n in range(20)
    ])  # fmt: skip
    assert float(torch.stack(seconds).mean()) == pytest.approx(float(full.mean()), rel=0.01)


def test_too_few_neighbours_are_refused() -> None:
    stored = images(1000, (3, 2, 2))
    (ideal,) = of_images(ArraySplit(stored), mirrored=False, conditional=False, device=CPU, seed=0, most_values=A_PART)
    x0 = (stored[:5].float() / 127.5 - 1).double()
    found = ideal(noised(x0, level(-5.0), 1), level(-5.0), own=torch.arange(5))
    assert float(found.neighbours.min()) > 40
    with pytest.raises(TooFewNeighboursError, match=r"at log SNR 2 .* from 400 of 1000 .* at least 40 are needed"):
        ideal(noised(x0, level(2.0), 1), level(2.0), own=torch.arange(5))


def test_what_remembers_its_own_image_returns_it() -> None:
    """At next to no noise the set's mean is the own image, whether the part has it or not."""
    stored = images(1000, (3, 2, 2))
    (ideal,) = of_images(ArraySplit(stored), mirrored=True, conditional=False, device=CPU, seed=0, most_values=A_PART)
    own = torch.arange(30)
    x0 = (stored[:30].float() / 127.5 - 1).double()
    found = ideal.estimate(noised(x0, level(8.0), 1), level(8.0), own=own)
    assert torch.allclose(found.mean, x0, atol=1e-6)
