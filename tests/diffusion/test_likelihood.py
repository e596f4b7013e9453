import itertools
import math

import numpy as np
import pytest
import torch
from likelihood_cases import ExactNetwork, estimator, grid, independent, ode_closed_form, process, unit_probes
from scipy.integrate import quad
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from debiasctl.api import Estimate
from debiasctl.diffusion.likelihood import (
    bound_term,
    dequantised_bits,
    ode_log_density,
    prior_term,
    strata,
)
from debiasctl.diffusion.parameterization import convert
from debiasctl.diffusion.process import DiffusionProcess, per_image
from debiasctl.diffusion.variance import bound_terms
from debiasctl.errors import UsageError

ZERO = "cosine:zero_terminal_snr=true"
SCHEDULES = ("linear", "cosine", ZERO, "edm")
CASES = [(ref, kind) for ref in SCHEDULES for kind in ("eps", "x0", "v") if (ref, kind) != (ZERO, "eps")]
CASES += [("edm", "edm"), ("linear", "edm"), ("flow:continuous=false", "flow")]
CASES += [("flow:shift=3,continuous=false", "v")]
MEAN, STD = 0.3, 0.4

# ---------------------------------------------------------------- the bound


@pytest.mark.parametrize("ref", [*SCHEDULES, "cosine:num_timesteps=2"])
def test_groups_share_out_the_timesteps(ref: str) -> None:
    chain = process(ref)
    last = chain.num_timesteps
    for num_terms in {2, min(last, 3), min(last, 50), max(2, last - 1), last}:
        groups = strata(chain, num_terms)
        assert len(groups) == num_terms
        assert [t for group in groups for t in group] == list(range(last))
        assert len(groups[0]) == 1
        assert min(map(len, groups)) >= 1
    for wrong in (1, last + 1):
        with pytest.raises(UsageError, match=f"choose from 2 to {last}"):
            strata(chain, wrong)


def test_groups_are_short_where_the_bound_is_large() -> None:
    groups = strata(process("linear"), 50)
    assert len(groups[1]) == 1
    assert 10 < len(groups[-1]) < 100  # of 1000; half of them go by t


@pytest.mark.parametrize("ref", SCHEDULES)
def test_the_priors_term_is_a_divergence(ref: str) -> None:
    chain = process(ref)
    x0 = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = prior_term(chain, x0)
    if ref == ZERO:
        assert bool((found == 0).all())
        return
    expected = kl_divergence(Normal(chain.alpha[-1] * x0, chain.sigma[-1]), Normal(0.0, 1.0)).mean((1, 2, 3))
    torch.testing.assert_close(found, expected / math.log(2), rtol=1e-6, atol=1e-15)
    assert bool((found > 0).all())


def log_variances(chain: DiffusionProcess, variance: str) -> np.ndarray:
    """Of each reverse step, from the tables of betas alone; `learned` is a fraction of 0.3 everywhere.

    Both fixed ones are that of t = 1 at t = 0, as in guided-diffusion: `append(posterior_variance[1], betas[1:])`.
    """
    beta = chain.betas.numpy()
    total = np.cumprod(1 - beta)
    small = beta[1:] * (1 - total[:-1]) / (1 - total[1:])
    small = np.concatenate([small[:1], small])
    if variance == "fixed-large":
        return np.log(np.concatenate([small[:1], beta[1:]]))
    fraction = {"fixed-small": 0.0, "learned": 0.3}[variance]
    return fraction * np.log(beta) + (1 - fraction) * np.log(small)


@pytest.mark.parametrize(
    "ref, kind, variance",
    [
        (ref, kind, variance)
        for ref, kind in CASES
        for variance in ("fixed-small", "fixed-large", "learned")
        if (ref, variance) != ("edm", "learned")  # a continuous schedule has none
    ],
)
def test_the_bound_of_normal_images_is_its_closed_form(ref: str, kind: str, variance: str) -> None:
    """The error of E[x0 | x_t] is quadratic in (x0, eps), so that three Gauss-Hermite nodes of each average exactly."""
    chain = process(ref)
    network = independent(chain, kind, mean=MEAN, std=STD)
    network.fraction = 0.3 if variance == "learned" else None
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    pairs, weight = list(itertools.product(nodes, nodes)), np.outer(weights, weights).ravel() / (2 * np.pi)
    x0, eps = MEAN + STD * grid([a for a, _ in pairs]), grid([b for _, b in pairs])
    t = [*range(1, chain.num_timesteps, 37), chain.num_timesteps - 1]
    alpha, sigma = chain.alpha[t].numpy(), chain.sigma[t].numpy()
    left = STD**2 * sigma**2 / (alpha**2 * STD**2 + sigma**2)  # Var(x0 | x_t)
    before = chain.alphas_cumprod[[k - 1 for k in t]].numpy()
    beta = chain.betas[t].numpy()
    true = beta * (1 - before) / sigma**2
    predicted = np.exp(log_variances(chain, variance)[t])
    expected = 0.5 * (
        np.log(predicted / true) + true / predicted - 1 + before * (beta / sigma**2) ** 2 * left / predicted
    )
    estimate = estimator(network)
    found = [
        weight @ bound_term(
            estimate, chain, x0=x0, eps=eps, t=torch.full((len(x0),), k, dtype=torch.int64), variance=variance
        ).numpy()
        for k in t
    ]  # fmt: skip
    assert np.array(found) * math.log(2) == pytest.approx(expected, rel=1e-8, abs=1e-18)


@pytest.mark.parametrize("ref, kind", CASES)
def test_the_first_term_is_the_grey_levels_probability(ref: str, kind: str) -> None:
    chain = process(ref)
    alpha, sigma = chain.alpha[0].item(), chain.sigma[0].item()
    levels = np.array([0, 60, 128, 200, 255]) / 127.5 - 1
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    scale = math.exp(0.5 * log_variances(chain, "fixed-large")[0])

    def nats(eps: float, x0: float) -> float:
        mean = MEAN + gain * (alpha * x0 + sigma * eps - alpha * MEAN)
        low, high = (-np.inf if x0 == -1 else x0 - 1 / 255), (np.inf if x0 == 1 else x0 + 1 / 255)
        sign = 1 if x0 < mean else -1  # by the lower tail, which keeps its digits
        ends = sorted([sign * (low - mean) / scale, sign * (high - mean) / scale])
        return -np.log(norm.cdf(ends[1]) - norm.cdf(ends[0]))

    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    for x0 in levels:
        expected, _ = quad(lambda eps, x0=x0: norm.pdf(eps) * nats(eps, x0), -6, 6, epsabs=1e-7)
        images, eps = torch.full_like(grid(nodes), x0), grid(nodes)
        t = torch.zeros(len(nodes), dtype=torch.int64)
        found = bound_term(
            estimator(independent(chain, kind, mean=MEAN, std=STD)),
            chain,
            x0=images,
            eps=eps,
            t=t,
            variance="fixed-large",
        )
        total = (weights / math.sqrt(2 * math.pi)) @ found.numpy() * math.log(2)
        assert total == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_learned_variances_bound_is_that_of_training() -> None:
    chain = process("linear")
    generator = torch.Generator().manual_seed(0)
    x0, eps, shift, fraction = torch.randn(4, 4, 1, 2, 2, generator=generator).unbind()
    t = torch.tensor([0, 1, 300, 999])
    guess = x0 + 0.1 * shift

    def estimate(x_t, levels) -> Estimate:
        alpha, sigma = per_image(levels.alpha, levels.sigma, like=x_t)
        found = convert(guess, "x0", x_t=x_t, alpha=alpha, sigma=sigma)
        return Estimate(found.x0, found.eps, found.v, torch.sigmoid(fraction))

    found = bound_term(estimate, chain, x0=x0, eps=eps, t=t, variance="learned")
    expected = bound_terms(chain, guess, torch.sigmoid(fraction), x0=x0, t=t)
    torch.testing.assert_close(found, expected.double(), rtol=1e-5, atol=0)


def test_a_variance_that_was_not_learned_is_refused() -> None:
    chain = process("linear")
    x0, t = torch.zeros(1, 1, 1, 1), torch.tensor([3])
    with pytest.raises(UsageError, match="this model has no learned variance"):
        bound_term(estimator(independent(chain, "v", mean=0, std=1)), chain, x0=x0, eps=x0, t=t, variance="learned")


# ---------------------------------------------------------------- the ODE

MIX = torch.tensor([[0.6, 0.2], [-0.3, 0.05]], dtype=torch.float64)  # one direction has std 0.13
CENTRE = torch.tensor([0.2, -0.4], dtype=torch.float64)


def correlated(ref: str, kind: str) -> tuple[ExactNetwork, torch.Tensor]:
    """And ten images from its distribution, float64 [10, 1, 1, 2]."""
    noise = torch.randn(10, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    network = ExactNetwork(process(ref), kind, mean=CENTRE, covariance=MIX @ MIX.T)
    return network, (noise @ MIX.T + CENTRE).reshape(10, 1, 1, 2)


@pytest.mark.parametrize("ref, kind", CASES)
def test_the_ode_of_normal_images_is_its_closed_form(ref: str, kind: str) -> None:
    network, x = correlated(ref, kind)
    exact = ode_closed_form(network, x)
    errors, estimates = [], []
    for num_steps in (16, 32):
        found = ode_log_density(estimator(network), network.process, x, probes=unit_probes(x), num_steps=num_steps)
        errors.append((found.log_density - exact).abs().mean().item())
        estimates.append(found.discretisation.mean().item())
    assert errors[-1] < 3e-4
    assert errors[0] / errors[1] > 2**3.5  # order 4
    assert all(error < estimate < 40 * error for error, estimate in zip(errors, estimates, strict=True))


@pytest.mark.parametrize("num_timesteps", [3, 10])
def test_the_last_step_to_zero_snr_is_covered_by_the_estimate(num_timesteps: int) -> None:
    network, x = correlated(f"{ZERO},num_timesteps={num_timesteps}", "v")
    found = ode_log_density(estimator(network), network.process, x, probes=unit_probes(x), num_steps=64)
    error = (found.log_density - ode_closed_form(network, x)).abs()
    assert error.max() > 1e-4
    assert bool((error < found.discretisation).all())
    assert max(level.max().item() for level, _ in network.asked) == num_timesteps - 1


def test_all_signs_of_probes_give_the_exact_trace() -> None:
    network, x = correlated("linear", "eps")
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2)), dtype=torch.float64).reshape(4, 1, 1, 1, 2)
    by_signs, by_units = (
        ode_log_density(estimator(network), network.process, x, probes=probes, num_steps=8).log_density
        for probes in (signs.expand(4, *x.shape), unit_probes(x))
    )
    torch.testing.assert_close(by_signs, by_units, rtol=1e-10, atol=1e-10)
    (one,) = {
        ode_log_density(estimator(network), network.process, x[:1], probes=signs[1:2], num_steps=8).log_density.item()
    }
    assert abs(one - by_units[0].item()) > 1e-2  # a single one does not: the directions are correlated


@pytest.mark.parametrize("ref", [*SCHEDULES, "cosine:num_timesteps=5"])  # of which alpha_0 is far from 1
def test_the_density_of_a_wrong_network_has_integral_1(ref: str) -> None:
    chain = process(ref)

    def estimate(x_t, levels) -> Estimate:
        alpha, sigma = per_image(levels.alpha, levels.sigma, like=x_t)
        x0 = 0.5 * torch.sin(2 * x_t + 0.4) + 0.1 * alpha
        return convert(x0, "x0", x_t=x_t, alpha=alpha, sigma=sigma)

    x = grid(torch.linspace(-3, 3, 40001, dtype=torch.float64))
    found = ode_log_density(estimate, chain, x, probes=unit_probes(x), num_steps=60)
    density = found.log_density.exp()
    assert torch.trapezoid(density, x.flatten()).item() == pytest.approx(1, abs=2e-3)


def test_a_uniform_density_has_eight_bits() -> None:
    log_density = -3 * torch.log(torch.tensor([512 / 255], dtype=torch.float64))
    assert dequantised_bits(log_density, dimension=3).item() == pytest.approx(8)


@pytest.mark.parametrize("num_steps", [0, 1, 7])
def test_steps_that_cannot_be_halved_are_refused(num_steps: int) -> None:
    network, x = correlated("linear", "v")
    with pytest.raises(UsageError, match="give an even number"):
        ode_log_density(estimator(network), network.process, x, probes=unit_probes(x), num_steps=num_steps)
