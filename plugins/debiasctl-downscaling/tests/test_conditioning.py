"""Conditional samples of Gaussians are those of the closed form."""

import pytest
import torch
from closed_forms import GaussianDenoiser, conditional, covariance
from debiasctl_downscaling.conditioning import Conditioned, draw
from debiasctl_downscaling.operators import Matrix, Mean, Operator

import debiasctl
from debiasctl.api import UsageError
from debiasctl.diffusion import DiffusionProcess, alphas_cumprod_from_betas

SHAPE = (1, 4, 4)
SIZE = 16


def process(last: float = 0.02, steps: int = 1000) -> DiffusionProcess:
    return DiffusionProcess(alphas_cumprod_from_betas(torch.linspace(1e-4, last, steps, dtype=torch.float64)))


def sampled_law(operator: Operator, cov: torch.Tensor, y: torch.Tensor, **options) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean and covariance of samples, exactly: all steps are affine in the noise, whose every basis vector is used.

    DDIM is deterministic, so that the noise is that of the beginning.
    """
    mean = torch.linspace(-0.5, 0.5, SIZE, dtype=torch.float64)
    denoiser = GaussianDenoiser(process(), mean, cov)
    noise = torch.cat([torch.zeros(1, SIZE), torch.eye(SIZE)]).double().reshape(-1, *SHAPE)
    low = y.expand(len(noise), *y.shape)
    sampler = debiasctl.sampler("heun:clip_x0=false,sigma_max=null")
    x = sampler(
        Conditioned(denoiser, operator, low, **options), noise, num_steps=32, noise=lambda step: torch.zeros_like(noise)
    )
    flat = x.flatten(1)
    factor = flat[1:] - flat[0]
    return flat[0], factor.T @ factor


def wanted_law(operator: Operator, cov: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    basis = torch.eye(SIZE, dtype=torch.float64).reshape(-1, *SHAPE)
    mean = torch.linspace(-0.5, 0.5, SIZE, dtype=torch.float64)
    return conditional(mean, cov, operator(basis).flatten(1).T, y.flatten())


@pytest.mark.parametrize("kind", ["mean", "matrix"])
def test_with_exact_guidance_any_gaussian_has_its_conditional_law(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    operator = Mean(2, 2) if kind == "mean" else Matrix(torch.randn(5, SIZE, generator=generator).double())
    cov = covariance(SIZE, seed=4)
    y = torch.randn(*operator.low_shape(SHAPE), generator=generator).double()
    mean, spread = sampled_law(operator, cov, y, iterations=20)
    wanted_mean, wanted_spread = wanted_law(operator, cov, y)
    assert (mean - wanted_mean).abs().max() < 0.02 * wanted_mean.abs().max()
    assert (spread - wanted_spread).norm() < 0.03 * wanted_spread.norm()


def test_the_papers_formula_is_exact_where_the_row_space_is_independent() -> None:
    """There alpha makes no difference, as the guidance lies in the space that is projected out."""
    operator = Mean(2, 2)
    white = torch.eye(SIZE, dtype=torch.float64).reshape(-1, *SHAPE)
    row_space = operator.lift(operator.coordinates(white), white.shape).flatten(1)
    cov = 0.4 * row_space + 1.5 * (torch.eye(SIZE).double() - row_space)
    y = torch.tensor([[[0.3, -0.2], [0.1, 0.8]]]).double()
    wanted_mean, wanted_spread = wanted_law(operator, cov, y)
    for alpha in (0.0, 2.0):
        mean, spread = sampled_law(operator, cov, y, alpha=alpha)
        assert (mean - wanted_mean).abs().max() < 0.01
        assert (spread - wanted_spread).norm() < 0.03 * wanted_spread.norm()


def test_the_papers_guidance_brings_the_law_closer() -> None:
    """With correlated pixels, alpha = 0, projection alone, is far from the conditional law."""
    cov = covariance(SIZE, seed=4)
    operator = Mean(2, 2)
    y = torch.tensor([[[0.3, -0.2], [0.1, 0.8]]]).double()
    wanted_mean, _ = wanted_law(operator, cov, y)
    errors = [float((sampled_law(operator, cov, y, alpha=alpha)[0] - wanted_mean).norm()) for alpha in (0.0, 0.5)]
    assert errors[1] < 0.9 * errors[0], errors


def test_the_estimate_is_the_papers_equation() -> None:
    """D~ = C†y + (I - V Vᵀ)[D - alpha grad |C D - y|²], with x in units of x0 + sigma eps and C's own alpha."""
    generator = torch.Generator().manual_seed(0)
    c = torch.linalg.qr(torch.randn(SIZE, 5, generator=generator).double())[0].T  # its singular values are 1
    cov, mean = covariance(SIZE, seed=9), torch.zeros(SIZE).double()
    denoiser, t = GaussianDenoiser(process(), mean, cov), 400.0
    levels = denoiser.process.levels(torch.tensor([t], dtype=torch.float64))
    x_t, y = torch.randn(3, *SHAPE, generator=generator).double(), torch.randn(3, 5, generator=generator).double()
    x = (x_t / levels.alpha).requires_grad_()
    d = denoiser(x * levels.alpha, t).x0.flatten(1)
    (gradient,) = torch.autograd.grad((d @ c.T - y).square().sum(), x)
    free = (d - 0.7 * gradient.flatten(1)).detach()
    wanted = y @ torch.linalg.pinv(c).T + free @ (torch.eye(SIZE).double() - c.T @ c)
    found = Conditioned(denoiser, Matrix(c), y, alpha=0.7)(x_t, t)
    assert torch.allclose(found.x0.flatten(1), wanted)
    assert torch.allclose(x_t, levels.alpha * found.x0 + levels.sigma * found.eps)
    assert not found.x0.requires_grad


def test_at_pure_noise_it_projects() -> None:
    """With zero terminal SNR, x says nothing at the last timestep."""
    table = process().alphas_cumprod.clone()
    table[-1] = 0
    denoiser = GaussianDenoiser(DiffusionProcess(table), torch.zeros(SIZE).double(), covariance(SIZE, seed=2))
    operator, y = Mean(2, 2), torch.ones(2, 1, 2, 2).double()
    for iterations in (0, 5):
        found = Conditioned(denoiser, operator, y, iterations=iterations)(torch.randn(2, *SHAPE).double(), 999.0)
        assert torch.allclose(operator(found.x0), y)


def test_images_obey_the_constraint_and_do_not_depend_on_the_batch() -> None:
    denoiser = GaussianDenoiser(process(), torch.zeros(SIZE).double(), covariance(SIZE, seed=2))
    operator, low = Mean(2, 2), torch.rand(5, 1, 2, 2) - 0.5
    options = {"shape": SHAPE, "sampler": debiasctl.sampler("ddpm:clip_x0=false"), "num_steps": 5, "seed": 7}
    together = draw(denoiser, operator, low, **options)
    apart = draw(denoiser, operator, low, batch_size=2, **options)
    assert torch.allclose(together, apart, atol=1e-5)
    assert torch.allclose(operator(together), low, atol=1e-5)
    assert not torch.allclose(together, draw(denoiser, operator, low, **(options | {"seed": 8})), atol=0.1)
    with pytest.raises(UsageError, match="the low-resolution images are 1x2x2, and operator mean:4 makes 1x1x1"):
        draw(denoiser, Mean(4, 4), low, **options)
    with pytest.raises(UsageError, match="3 images are drawn, given 5"):
        Conditioned(denoiser, operator, low)(torch.zeros(3, *SHAPE), 10.0)
