import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from debiasctl import registry
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.diffusion.variance import bound_terms, log_variance

SCHEDULES = ("linear", "cosine", "cosine:zero_terminal_snr=true")


def make(schedule: str) -> DiffusionProcess:
    return process_of(registry.create("schedules", schedule))


def filled(value: float, like: torch.Tensor) -> torch.Tensor:
    return torch.full((len(like), 1, 1, 1), value, dtype=torch.float64)


# ---------------------------------------------------------------- the variance


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_fraction_goes_from_beta_tilde_to_beta_in_logarithms(schedule: str) -> None:
    process = make(schedule)
    t = torch.arange(process.num_timesteps)
    low, middle, high = (log_variance(process, filled(value, t), t).flatten() for value in (0.0, 0.25, 1.0))
    torch.testing.assert_close(low[1:], process.posterior_variance[1:].log(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(high, process.betas.log(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(middle, 0.75 * low + 0.25 * high, rtol=1e-12, atol=1e-14)
    assert low[0] == low[1]  # where the posterior has no variance, whose log there is not


@pytest.mark.parametrize("schedule, name", [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_the_variance_is_diffusers(schedule: str, name: str) -> None:
    process = make(schedule)
    peer = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule=name, variance_type="learned_range")
    torch.testing.assert_close(peer.alphas_cumprod.double(), process.alphas_cumprod, rtol=1e-3, atol=1e-6)
    peer.alphas_cumprod = process.alphas_cumprod  # theirs is float32, from which beta_tilde(1) has three digits
    t = torch.arange(1, 1000)
    raw = torch.linspace(-1.2, 1.2, 999, dtype=torch.float64).reshape(-1, 1, 1, 1)
    theirs = torch.stack([peer._get_variance(int(one), predicted_variance=raw[i]) for i, one in enumerate(t)])
    torch.testing.assert_close(log_variance(process, (raw + 1) / 2, t), theirs, rtol=0, atol=1e-5)


def test_a_process_of_one_step_has_its_beta() -> None:
    process = DiffusionProcess(make("linear").alphas_cumprod[-1:])
    for value in (0.0, 1.0):
        found = log_variance(process, torch.full((1, 1, 1, 1), value), torch.tensor([0]))
        assert found.item() == pytest.approx(process.betas[0].log().item())


# ---------------------------------------------------------------- the bound


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_bounds_terms_are_divergences_of_normal_distributions(schedule: str) -> None:
    process = make(schedule)
    t = torch.arange(1, 1000, 7)
    generator = torch.Generator().manual_seed(0)
    x0, eps, error, fraction = torch.randn(4, len(t), 2, 3, 3, generator=generator, dtype=torch.float64)
    x_t, x0_hat = process.add_noise(x0, eps, process.levels(t)), x0 + 0.1 * error

    def step(image: torch.Tensor) -> torch.Tensor:
        """DDPM, Eq. 7, from the tables of betas alone."""
        beta = process.betas[t].reshape(-1, 1, 1, 1)
        total = torch.cumprod(1 - process.betas, 0)[t].reshape(-1, 1, 1, 1)
        before = torch.cumprod(1 - process.betas, 0)[t - 1].reshape(-1, 1, 1, 1)
        return (before.sqrt() * beta * image + (1 - beta).sqrt() * (1 - before) * x_t) / (1 - total)

    true = Normal(step(x0), process.posterior_variance[t].sqrt().reshape(-1, 1, 1, 1))
    predicted = Normal(step(x0_hat), (0.5 * log_variance(process, fraction, t)).exp())
    expected = kl_divergence(true, predicted).mean((1, 2, 3)) / math.log(2)
    found = bound_terms(process, x0_hat, fraction, x0=x0, x_t=x_t, t=t)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)
    assert expected.max() > 0.1


def test_a_network_that_knows_all_has_no_divergence() -> None:
    process, t = make("linear"), torch.arange(1, 1000)
    x0, eps = torch.randn(2, 999, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    x_t = process.add_noise(x0, eps, process.levels(t))
    found = bound_terms(process, x0, torch.zeros_like(x0), x0=x0, x_t=x_t, t=t)
    assert found.abs().max() < 1e-6


def grey_levels(shape: tuple[int, ...] = (256, 1, 1, 1)) -> torch.Tensor:
    return (torch.arange(256, dtype=torch.float64) / 127.5 - 1).reshape(shape)


def first_terms(process: DiffusionProcess, x0: torch.Tensor, x0_hat: torch.Tensor, fraction: torch.Tensor):
    """The terms at t = 0, nats [N]."""
    t = torch.zeros(len(x0), dtype=torch.int64)
    x_t = process.add_noise(x0, torch.ones_like(x0), process.levels(t))
    return bound_terms(process, x0_hat, fraction, x0=x0, x_t=x_t, t=t).double() * math.log(2)


@pytest.mark.parametrize("schedule", ["linear", "cosine:num_timesteps=5"])
@pytest.mark.parametrize("mean", [-1.0, -0.47, 0.0031, 0.99, 1.3])
def test_the_first_term_is_the_probability_of_a_grey_level(schedule: str, mean: float) -> None:
    process, x0 = make(schedule), grey_levels()
    nats = first_terms(process, x0, torch.full_like(x0, mean), torch.full_like(x0, 0.3))
    assert nats.neg().exp().sum().item() == pytest.approx(1, abs=2e-6)
    std = float(process.betas[0] ** 0.15 * process.posterior_variance[1] ** 0.35)
    edges = [-np.inf, *(np.arange(255) / 127.5 - 1 + 1 / 255), np.inf]
    expected = np.diff(norm.cdf(edges, loc=mean, scale=std))
    assert nats.neg().exp().numpy() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_the_first_term_has_its_gradient_however_large_the_error() -> None:
    """Early in training an error is many standard deviations of the last step, and the variance is to learn it."""
    process = make("linear")
    distance = torch.linspace(-0.3, 0.3, 61, dtype=torch.float64).reshape(-1, 1, 1, 1)
    x0 = torch.zeros_like(distance) + 1 / 255
    fraction = torch.full_like(distance, 0.5, requires_grad=True)
    found = first_terms(process, x0, x0 - distance, fraction)
    (slope,) = torch.autograd.grad(found.sum(), fraction)
    log_std = 0.25 * (process.betas[0].log() + process.posterior_variance[1].log()).item()

    def nats(log_std: float) -> np.ndarray:
        """By the lower tail, which keeps its digits."""
        away = -np.abs(distance.flatten().numpy())
        upper, lower = (norm.logcdf((away + half) * math.exp(-log_std)) for half in (1 / 255, -1 / 255))
        return -(upper + np.log(-np.expm1(lower - upper)))

    assert found.detach().numpy() == pytest.approx(nats(log_std), rel=1e-4)
    step = 0.5 * (process.betas[0].log() - process.posterior_variance[1].log()).item()
    expected = (nats(log_std + 1e-4) - nats(log_std - 1e-4)) / 2e-4 * step
    assert slope.flatten().numpy() == pytest.approx(expected, rel=1e-3)


def test_a_batch_mixes_the_two_kinds_of_terms() -> None:
    process = make("linear")
    x0, eps, error = torch.randn(3, 4, 1, 3, 3, generator=torch.Generator().manual_seed(2)).unbind()
    t = torch.tensor([0, 500, 0, 3])
    x_t = process.add_noise(x0, eps, process.levels(t))
    given = {"x0_hat": x0 + 0.01 * error, "fraction": torch.sigmoid(error), "x0": x0, "x_t": x_t, "t": t}
    together = bound_terms(process, **given)
    for i in range(4):
        alone = bound_terms(process, **{name: value[i : i + 1] for name, value in given.items()})
        torch.testing.assert_close(alone, together[i : i + 1])


def test_only_the_variance_is_trained_through_the_bound() -> None:
    process, t = make("linear"), torch.tensor([0, 1, 400, 999])
    generator = torch.Generator().manual_seed(3)
    x0, eps, error, raw = torch.randn(4, 4, 1, 2, 2, generator=generator).unbind()
    x_t = process.add_noise(x0, eps, process.levels(t))
    x0_hat, fraction = (x0 + 0.01 * error).requires_grad_(), torch.sigmoid(raw).requires_grad_()
    bound_terms(process, x0_hat, fraction, x0=x0, x_t=x_t, t=t).sum().backward()
    assert x0_hat.grad is None
    assert bool((fraction.grad.flatten(1).norm(dim=1) > 0).all())


@pytest.mark.parametrize("std", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t", [1, 10, 60])  # later the two ends are nearly one
def test_the_best_fraction_is_that_of_the_true_reverse_step(std: float, t: int) -> None:
    """For pixels x0 ~ N(0, std²), p(x_{t-1} | x_t) is normal with variance beta_tilde + coef² Var(x0 | x_t).

    It is beta_tilde for a known image and beta for std 1 (DDPM, §3.2), the two ends of the fraction. The expectation
    over x0 is that over two errors of x0_hat = E[x0 | x_t], of either sign: the term has no odd part.
    """
    process = make("linear")
    alpha, sigma = process.alpha[t].item(), process.sigma[t].item()
    spread = std * sigma / math.sqrt(alpha**2 * std**2 + sigma**2)
    low, high = process.posterior_variance[t].item(), process.betas[t].item()
    variance = low + (process.posterior_mean_coef_x0[t].item() * spread) ** 2
    best = math.log(variance / low) / math.log(high / low)
    assert best == pytest.approx({0.0: 0.0, 1.0: 1.0}.get(std, best), abs=1e-9)
    assert 0 <= best <= 1 + 1e-9

    x_t = torch.full((2, 1, 1, 1), 0.7, dtype=torch.float64)
    x0_hat = torch.full_like(x_t, alpha * std**2 / (alpha**2 * std**2 + sigma**2) * 0.7)
    x0 = x0_hat + torch.tensor([spread, -spread], dtype=torch.float64).reshape(2, 1, 1, 1)

    def slope(value: float) -> float:
        fraction = torch.full_like(x_t, value, requires_grad=True)
        bound_terms(process, x0_hat, fraction, x0=x0, x_t=x_t, t=torch.tensor([t, t])).sum().backward()
        return fraction.grad.sum().item()

    below, at_best, above = slope(best - 0.1), slope(best), slope(best + 0.1)
    assert below < 0 < above
    assert abs(at_best) < 1e-2 * (above - below)
