"""What every sampler does: how often it asks, and that it works with one step, two, and from zero terminal SNR."""

import pytest
import torch
from sampler_cases import (
    crooked,
    exact_denoiser,
    gaussian,
    no_noise,
    numbered_noise,
    process,
    random_x,
    sampler,
)

ODE_SOLVERS = [
    ("ddim", {}),
    ("dpm-solver", {"order": 1}),
    ("dpm-solver", {}),
    ("dpm-solver", {"order": 3}),
    ("dpm-solver++", {"order": 1}),
    ("dpm-solver++", {}),
    ("dpm-solver++", {"order": 3}),
    ("dpm-solver++", {"order": 3, "curvature": "full"}),
    ("unipc", {"order": 1}),
    ("unipc", {"order": 2}),
    ("unipc", {}),
    ("unipc", {"variant": "bh1"}),
    ("euler", {}),
    ("heun", {}),
]
SDE_SOLVERS = [
    ("ddpm", {}),
    ("ddim", {"eta": 1.0}),
    ("dpm-solver++", {"stochastic": True, "order": 1}),
    ("dpm-solver++", {"stochastic": True}),
    ("euler", {"s_churn": 10.0}),
    ("heun", {"s_churn": 10.0}),
]


@pytest.mark.parametrize("spacing", ["uniform", "karras"])
@pytest.mark.parametrize("num_steps", [1, 2, 12])
@pytest.mark.parametrize("name, options", ODE_SOLVERS + SDE_SOLVERS)
def test_forwards_noise_and_dtype(name: str, options: dict, num_steps: int, spacing: str) -> None:
    asked, told = [], []
    denoiser, x, labels = crooked(process()), random_x(2, 1, 2, 2).float(), torch.tensor([1, 0])

    def noise(k: int) -> torch.Tensor:
        asked.append(k)
        return torch.ones_like(x)

    before = x.clone()
    made = sampler(name, spacing=spacing, **options)
    got = made(denoiser, x, num_steps=num_steps, noise=noise, labels=labels, on_step=lambda done, *_: told.append(done))
    assert (got.shape, got.dtype) == (x.shape, torch.float32)
    assert got.isfinite().all()
    assert torch.equal(x, before)
    assert denoiser.nfe == (2 * num_steps - 1 if name == "heun" else num_steps)
    assert all(given is labels for given in denoiser.labels)
    assert told == list(range(1, num_steps + 1))
    if (name, options) in ODE_SOLVERS:
        assert asked == []
    elif "s_churn" in options:  # the first level cannot be raised
        assert asked == list(range(2, num_steps + 1))
    else:
        assert asked == list(range(1, num_steps))


@pytest.mark.parametrize("spacing", ["uniform", "trailing", "karras", "log-snr"])
@pytest.mark.parametrize("schedule", ["linear:zero_terminal_snr=true", "cosine:zero_terminal_snr=true"])
@pytest.mark.parametrize("name, options", ODE_SOLVERS + SDE_SOLVERS)
def test_zero_terminal_snr(name: str, options: dict, schedule: str, spacing: str) -> None:
    forward, x = process(schedule), random_x(3, 1, 2, 2)
    for num_steps in (1, 2, 3, 8):
        denoiser = exact_denoiser(forward, "v")
        made = sampler(name, spacing=spacing, **options)
        got = made(denoiser, x, num_steps=num_steps, noise=numbered_noise(x.shape))
        assert got.isfinite().all()
        assert denoiser.nfe == (max(2 * num_steps - 2, 1) if name == "heun" else num_steps)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "edm", "linear:zero_terminal_snr=true", "flow"])
@pytest.mark.parametrize("num_steps", [1, 2, 9])
@pytest.mark.parametrize("name, options", ODE_SOLVERS + SDE_SOLVERS)
def test_an_image_known_for_sure_is_reached(name: str, options: dict, num_steps: int, schedule: str) -> None:
    denoiser, x = gaussian(process(schedule), mean=0.3, std=0.0), random_x(4, 1, 2, 2)
    got = sampler(name, **options)(denoiser, x, num_steps=num_steps, noise=numbered_noise(x.shape))
    torch.testing.assert_close(got, torch.full_like(got, 0.3), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name, options", ODE_SOLVERS)
def test_clipping_is_the_default_and_bounds_the_result(name: str, options: dict) -> None:
    x = 3 * random_x(2, 1, 4, 4)
    clipped = sampler(name, clip_x0=True, **options)(crooked(process()), x, num_steps=5, noise=no_noise)
    assert clipped.abs().max() <= 1
    assert type(sampler(name)).Options().clip_x0 is True
