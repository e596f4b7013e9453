"""Bits per dimension of images that are normally distributed, by a network that knows it."""

import math
from functools import partial

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess, NoiseLevels, per_image, rescale_zero_terminal_snr
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.likelihood.bits_per_dim import Bound, Draws, Found, Model, Ode, bound_bits, ode_bits

MEAN, STD = 0.1, 0.25
SHAPE = (1, 3, 3)
NUM = 48


class Exact(nn.Module):
    """v of pixels x0 ~ N(MEAN, STD²); remembers the labels that it is told."""

    def __init__(self, process: DiffusionProcess) -> None:
        super().__init__()
        self.process = process
        self.labels: list[Tensor | None] = []

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        self.labels.append(labels)
        levels = self.process.levels(noise_level.double())
        alpha, sigma = per_image(levels.alpha, levels.sigma, like=x)
        x0 = MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)
        return (alpha * x - x0) / sigma


def linear(num_timesteps: int = 40) -> DiffusionProcess:
    return DiffusionProcess(torch.cumprod(1 - torch.linspace(0.001, 0.3, num_timesteps, dtype=torch.float64), 0))


def zero_terminal() -> DiffusionProcess:
    return DiffusionProcess(rescale_zero_terminal_snr(linear().alphas_cumprod))


def model(*, num: int = NUM, labels: Tensor | None = None, network: nn.Module | None = None) -> Model:
    """On images whose pixels lie at even quantiles of the distribution, on grey levels."""
    process = linear()
    generator = torch.Generator().manual_seed(0)
    size = num * math.prod(SHAPE)
    quantiles = (torch.randperm(size, generator=generator) + 0.5) / size
    x0 = torch.from_numpy(norm.ppf(quantiles.numpy(), MEAN, STD)).clamp(-1, 1)
    x0 = ((x0 + 1) * 127.5).round() / 127.5 - 1
    images = HeldoutSet(x0.float().reshape(num, *SHAPE), labels)
    return Model(network or Exact(process), Parameterization("v", process), images)


def silent(done: int, total: int) -> None: ...


def bound(of: Model | None = None, *, num_terms: int = 40, variance: str = "fixed-small", **draws: int) -> Found:
    given = {"num": 2, "seed": 0, "batch_size": 64} | draws
    return bound_bits(of or model(), Bound(num_terms, variance), draws=Draws(**given), on_progress=silent)


def ode(of: Model | None = None, *, num_steps: int = 20, **draws: int) -> Found:
    given = {"num": 2, "seed": 0, "batch_size": 64} | draws
    return ode_bits(of or model(), Ode(num_steps), draws=Draws(**given), on_progress=silent)


def exact_terms() -> list[float]:
    """L_t of every t from 1, in bits per dimension, averaged over noise and images."""
    chain = linear()
    bits = []
    for t in range(1, chain.num_timesteps):
        alpha2, sigma2 = chain.alphas_cumprod[t].item(), 1 - chain.alphas_cumprod[t].item()
        before, beta = chain.alphas_cumprod[t - 1].item(), chain.betas[t].item()
        left = STD**2 * sigma2 / (alpha2 * STD**2 + sigma2)
        true = beta * (1 - before) / sigma2
        bits.append(0.5 * before * (beta / sigma2) ** 2 * left / true / math.log(2))
    return bits


def test_each_term_is_its_closed_form() -> None:
    found = bound(num=6)
    assert [(term.low, term.high) for term in found.terms] == [(t, t) for t in range(40)]
    for term, exact in zip(found.terms[1:], exact_terms(), strict=True):
        assert abs(term.bits - exact) < 4.5 * term.se
        assert term.se < 0.1 * exact
    figure = found.figure
    total = sum(term.bits for term in found.terms) + found.prior.bits
    assert figure.value == pytest.approx(total, rel=1e-9)


def test_a_part_of_the_terms_stands_for_all() -> None:
    whole = bound(num=4)
    for num_terms in (4, 15):
        found = bound(num_terms=num_terms, num=4, seed=1)
        assert len(found.terms) == num_terms
        for term in found.terms[1:]:
            exact = sum(exact_terms()[term.low - 1 : term.high])
            assert abs(term.bits - exact) < 4.5 * term.se
        figures = [one.figure for one in (whole, found)]
        noise = math.hypot(*(figure.se_draws for figure in figures))
        assert abs(figures[0].value - figures[1].value) < 4 * noise  # the images are the same


def test_the_ode_is_its_closed_form_within_its_errors() -> None:
    """Uniform dequantisation adds a bin's variance to the square, of which the log-density is a linear function."""
    chain, images = linear(), model().images.x0.double()
    first, last = ((chain.alphas_cumprod[k] * STD**2 + 1 - chain.alphas_cumprod[k]).sqrt() for k in (0, -1))
    gain = last / first * chain.alpha[0]
    square = (chain.alpha[-1] * MEAN + gain * (images - MEAN)) ** 2 + gain**2 * (2 / 255) ** 2 / 12
    nats = 0.5 * square + 0.5 * math.log(2 * math.pi) - gain.log()
    exact = (nats.mean() / math.log(2) + math.log2(127.5)).item()
    for num_steps in (4, 20):
        found = ode(num_steps=num_steps, num=4)
        figure = found.figure
        assert abs(figure.value - exact) < 4 * figure.se_draws + figure.discretisation
    assert figure.discretisation < 1e-3
    assert figure.se_draws < 1e-3
    assert found.nfe == 4 * 4 * (20 + 10)


@pytest.mark.parametrize("measure", [partial(bound, num_terms=6), partial(ode, num_steps=2)], ids=["bound", "ode"])
def test_the_draws_error_is_that_of_repetition(measure) -> None:
    """The spread over seeds for the same images."""
    figures = [measure(seed=seed).figure for seed in range(24)]
    values = torch.tensor([figure.value for figure in figures])
    stated = sum(figure.se_draws for figure in figures) / len(figures)
    assert 0.6 < values.std().item() / stated < 1.5


def test_the_images_error_is_that_of_their_likelihoods() -> None:
    """Of x0 ~ N(m, s²), -ln p varies by that of a chi-square over 2: 1/2 for each pixel."""
    figure = ode(num_steps=8, num=8).figure
    expected = math.sqrt(0.5 / (math.prod(SHAPE) * NUM)) / math.log(2)
    assert 0.7 < figure.se / expected < 1.4
    assert figure.se > 5 * figure.se_draws


@pytest.mark.parametrize("measure", [partial(bound, num_terms=6), partial(ode, num_steps=2)], ids=["bound", "ode"])
def test_the_batch_size_decides_nothing(measure) -> None:
    found = [measure(batch_size=size).figure for size in (7, 64)]
    for part in ("value", "se", "se_draws"):
        assert getattr(found[0], part) == pytest.approx(getattr(found[1], part), rel=1e-5)


def test_one_draw_does_not_tell_its_error() -> None:
    for found in (bound(num=1), ode(num=1)):
        figure = found.figure
        assert figure.se_draws is None
        assert figure.se > 0


@pytest.mark.parametrize("measure", [partial(bound, num_terms=6), partial(ode, num_steps=2)], ids=["bound", "ode"])
def test_the_network_is_told_each_images_label(measure) -> None:
    labels, network = torch.arange(NUM), Exact(linear())
    measure(model(labels=labels, network=network), num=1, batch_size=20)
    told = {tuple(one.tolist()) for one in network.labels if one is not None}
    assert told == {tuple(range(20)), tuple(range(20, 40)), tuple(range(40, NUM))}


@pytest.mark.parametrize("process", [linear(), zero_terminal()], ids=["linear", "zero terminal SNR"])
def test_every_forward_is_counted(process: DiffusionProcess) -> None:
    for measure in (partial(bound, num_terms=6), partial(ode, num_steps=4)):
        network = Exact(process)
        of = Model(network, Parameterization("v", process), model().images)
        found = measure(of)
        assert found.nfe == len(network.labels)
        assert math.isfinite(found.figure.value)


def test_what_is_not_finite_is_refused() -> None:
    class Broken(Exact):
        def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
            return super().forward(x, noise_level, labels) * float("nan")

    for measure in (bound, ode):
        with pytest.raises(EvaluationError, match="not finite"):
            measure(model(network=Broken(linear())))


def test_the_estimate_is_made_at_the_levels_asked_for() -> None:
    found = model()
    levels = found.parameterization.process.levels(torch.full((5,), 7))
    assert isinstance(levels, NoiseLevels)
    x_t = found.images.x0[:5]
    estimate = found.estimator(slice(0, 5))(x_t, levels)
    torch.testing.assert_close(levels.alpha[0].float() * estimate.x0 + levels.sigma[0].float() * estimate.eps, x_t)
