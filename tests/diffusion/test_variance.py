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
    found = bound_terms(process, x0_hat, fraction, x0=x0, t=t)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-13)
    # in float32, as in training, late terms keep their digits too: they are 1e-9 and less
    narrow = bound_terms(process, *(value.float() for value in (x0_hat, fraction)), x0=x0.float(), t=t)
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), expected, rtol=1e-4, atol=0)
    assert expected.max() > 0.1


def test_a_network_that_knows_all_has_no_divergence() -> None:
    process, t = make("linear"), torch.arange(1, 1000)
    x0 = torch.randn(999, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    found = bound_terms(process, x0, torch.zeros_like(x0), x0=x0, t=t)
    assert bool((found == 0).all())


def grey_levels(shape: tuple[int, ...] = (256, 1, 1, 1)) -> torch.Tensor:
    return (torch.arange(256, dtype=torch.float64) / 127.5 - 1).reshape(shape)


def first_terms(process: DiffusionProcess, x0: torch.Tensor, x0_hat: torch.Tensor, fraction: torch.Tensor):
    """The terms at t = 0, nats [N]."""
    t = torch.zeros(len(x0), dtype=torch.int64)
    return bound_terms(process, x0_hat, fraction, x0=x0, t=t).double() * math.log(2)


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


ALL_SCHEDULES = ("linear", "cosine", "scaled-linear", "sigmoid", "edm", "linear:num_timesteps=50",
                 "cosine:num_timesteps=5", "cosine:zero_terminal_snr=true")  # fmt: skip


@pytest.mark.parametrize("prediction", ["eps", "x0"])
@pytest.mark.parametrize("schedule", ALL_SCHEDULES)
def test_no_error_is_too_large_for_the_bound_and_its_gradient(schedule: str, prediction: str) -> None:
    """In float32, at every t, for errors up to 1e6, as of a network that diverges or has just begun."""
    process = make(schedule)
    t = torch.arange(process.num_timesteps - ("zero" in schedule and prediction == "eps"))
    ratio = (process.sigma / process.alpha)[t] if prediction == "eps" else torch.ones(len(t), dtype=torch.float64)
    for error in (0.0, 0.01, 1.0, 1e3, 1e5, 1e6):
        x0 = torch.tensor([-1.0, 1 / 255, 1.0]).repeat(len(t), 1).reshape(-1, 1, 1, 3)
        x0_hat = (x0 + error * ratio.reshape(-1, 1, 1, 1)).float()
        for sign in (1, -1):
            fraction = torch.full_like(x0, 0.3, requires_grad=True)
            found = bound_terms(process, x0 + sign * (x0_hat - x0), fraction, x0=x0, t=t)
            (slope,) = torch.autograd.grad(found.sum(), fraction)
            assert bool(found.isfinite().all()), error
            assert bool(slope.isfinite().all()), error
            wide = fraction.detach().double().requires_grad_()
            image = x0.double()
            exact = bound_terms(process, image + sign * (x0_hat.double() - image), wide, x0=image, t=t)
            (exact_slope,) = torch.autograd.grad(exact.sum(), wide)
            near = 1e-3 * exact_slope.abs().amax(dim=(1, 2, 3), keepdim=True) + 1e-7  # of the image's largest
            torch.testing.assert_close(found.double(), exact, rtol=1e-3, atol=1e-6)
            assert bool(((slope.double() - exact_slope).abs() <= near).all()), error


@pytest.mark.parametrize("error", [1e-3, 0.1, 3.0, 1e2, 1e4, 1e6])
def test_the_first_term_of_a_large_error_is_its_tail(error: float) -> None:
    """Against scipy's in float64: ln Phi(upper) + ln(1 - Phi(lower)/Phi(upper))."""
    process = make("linear")
    x0 = torch.tensor([1 / 255, -1.0]).reshape(2, 1, 1, 1)
    found = first_terms(process, x0, x0 + error, torch.zeros_like(x0))
    scale = float(process.posterior_variance[1] ** -0.5)
    upper, lower = (float(norm.logcdf(scale * (half - error))) for half in (1 / 255, -1 / 255))
    inner = -(upper + math.log(-math.expm1(lower - upper))) if lower < upper else -upper
    assert found.numpy() == pytest.approx([inner, -upper], rel=1e-4)


def test_a_batch_mixes_the_two_kinds_of_terms() -> None:
    process = make("linear")
    x0, error = torch.randn(2, 4, 1, 3, 3, generator=torch.Generator().manual_seed(2)).unbind()
    t = torch.tensor([0, 500, 0, 3])
    given = {"x0_hat": x0 + 0.01 * error, "fraction": torch.sigmoid(error), "x0": x0, "t": t}
    together = bound_terms(process, **given)
    for i in range(4):
        alone = bound_terms(process, **{name: value[i : i + 1] for name, value in given.items()})
        torch.testing.assert_close(alone, together[i : i + 1])


def test_only_the_variance_is_trained_through_the_bound() -> None:
    process, t = make("linear"), torch.tensor([0, 1, 400, 999])
    generator = torch.Generator().manual_seed(3)
    x0, error, raw = torch.randn(3, 4, 1, 2, 2, generator=generator).unbind()
    x0_hat, fraction = (x0 + 0.01 * error).requires_grad_(), torch.sigmoid(raw).requires_grad_()
    bound_terms(process, x0_hat, fraction, x0=x0, t=t).sum().backward()
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
        bound_terms(process, x0_hat, fraction, x0=x0, t=torch.tensor([t, t])).sum().backward()
        return fraction.grad.sum().item()

    below, at_best, above = slope(best - 0.1), slope(best), slope(best + 0.1)
    assert below < 0 < above
    assert abs(at_best) < 1e-2 * (above - below)
