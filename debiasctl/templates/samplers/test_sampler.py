"""The sampler keeps the contract of its kind, and is exact where the answer is known."""

import pytest
import torch
from debiasctl.testing import GaussianDenoiser, check_sampler
from torch import Tensor

from my_package.sampler import MySampler


def noise(k: int) -> Tensor:
    """Standard normal noise for the k-th step."""
    return torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(k), dtype=torch.float64)


def test_it_keeps_its_contract() -> None:
    check_sampler(MySampler)
    check_sampler(MySampler, {"tau": 0.0})


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_it_finds_the_only_image_that_there_is(tau: float) -> None:
    """The estimate of x0 never changes, and the last step, to sigma = 0, leaves it alone."""
    denoiser = GaussianDenoiser(mean=0.3, std=0.0)
    sampler = MySampler(MySampler.Options(tau=tau))
    samples = sampler(denoiser, noise(0), num_steps=5, noise=noise)
    torch.testing.assert_close(samples, torch.full_like(samples, 0.3), rtol=0, atol=1e-12)
    assert denoiser.nfe == 5


def test_noise_at_the_level_stays_at_the_level() -> None:
    """Of images that are 0, x_t is sigma_t times standard normal noise, at each step and with any tau."""
    drawn: list[float] = []
    sampler = MySampler(MySampler.Options(tau=1.0))
    levels = sampler.grid(GaussianDenoiser().process, 4)

    def record(done: int, x: Tensor, x0: Tensor) -> None:
        drawn.append(x.std().item())

    def many(k: int) -> Tensor:
        return torch.randn(200, 1, 16, 16, generator=torch.Generator().manual_seed(k), dtype=torch.float64)

    sampler(GaussianDenoiser(mean=0.0, std=0.0), levels[0].sigma * many(0), num_steps=4, noise=many, on_step=record)
    assert drawn == pytest.approx([level.sigma for level in levels[1:]], rel=0.02)
