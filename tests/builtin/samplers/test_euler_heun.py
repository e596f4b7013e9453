"""EDM's samplers against diffusers, their churn, and their options."""

import math
from itertools import pairwise

import pytest
import torch
from diffusers import EulerDiscreteScheduler, HeunDiscreteScheduler
from sampler_cases import crooked, finite_grid, gaussian, no_noise, numbered_noise, process, random_x, sampler, walk

from debiasctl.builtin.samplers.euler import Euler
from debiasctl.builtin.samplers.heun import Heun
from debiasctl.diffusion.grid import Level, Spacing, noise_grid

PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class Unrounded:
    """Images that diffusers' Euler, which begins with `sample.to(torch.float32)`, leaves in float64."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def to(self, dtype: torch.dtype) -> torch.Tensor:
        return self.images


def ratio(level: Level) -> float:
    return level.sigma / level.alpha


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", ["linspace", "karras"])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 25])
def test_every_euler_step_is_diffusers(num_steps: int, spacing: Spacing, prediction: str) -> None:
    """Its images are ours over alpha."""
    grid, x = noise_grid(process(), num_steps, spacing=spacing), random_x(2, 3, 4, 4)
    mine = walk(sampler("euler"), crooked(process()), x, grid, no_noise)
    peer = EulerDiscreteScheduler(prediction_type=PREDICTIONS[prediction])
    peer.set_timesteps(num_steps)
    peer.sigmas = torch.tensor([ratio(level) for level in grid], dtype=torch.float64)
    peer.set_begin_index(0)
    peer.is_scale_input_called = True
    theirs = crooked(process())
    for k, (now, after) in enumerate(pairwise(grid)):
        output = getattr(theirs(x, now.t), prediction)
        x = after.alpha * peer.step(output, peer.timesteps[k], Unrounded(x / now.alpha)).prev_sample
        torch.testing.assert_close(mine[k], x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", ["linspace", "karras"])
@pytest.mark.parametrize("num_steps", [1, 2, 10, 25])
def test_every_heun_step_is_diffusers(num_steps: int, spacing: Spacing, prediction: str) -> None:
    """Its images are ours over alpha; it has no churn."""
    grid, x = noise_grid(process(), num_steps, spacing=spacing), random_x(2, 3, 4, 4)
    mine = walk(sampler("heun"), crooked(process()), x, grid, no_noise)
    peer = HeunDiscreteScheduler(prediction_type=PREDICTIONS[prediction])
    peer.set_timesteps(num_steps)
    sigmas = torch.tensor([ratio(level) for level in grid], dtype=torch.float64)
    peer.sigmas = torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])
    peer.set_begin_index(0)
    theirs, x = crooked(process()), x / grid[0].alpha
    for k, (now, after) in enumerate(pairwise(grid)):
        for level in (now, after) if after.sigma > 0 else (now,):
            output = getattr(theirs(level.alpha * x, level.t), prediction)
            x = peer.step(output, peer.timesteps[peer.step_index or 0], x).prev_sample
        torch.testing.assert_close(mine[k], after.alpha * x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("s_churn, s_tmin, s_tmax", [(3.0, 0.0, None), (100.0, 0.0, None), (3.0, 0.5, 5.0)])
def test_every_euler_step_with_churn_is_diffusers(
    s_churn: float, s_tmin: float, s_tmax: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no level is raised beyond the schedule's, which diffusers does not know. Its v-prediction and its timestep
    take the level before the churn, unlike EDM's Alg. 2, so this compares x0-prediction at the level after it."""
    grid, x = finite_grid(process(), 10, spacing="karras"), random_x(2, 3, 4, 4)
    noise = numbered_noise(x.shape)
    ours = crooked(process())
    churned = sampler("euler", s_churn=s_churn, s_tmin=s_tmin, s_tmax=s_tmax, s_noise=1.003)
    mine = walk(churned, ours, x, grid, noise)
    peer = EulerDiscreteScheduler(prediction_type="sample")
    peer.set_timesteps(10)
    peer.sigmas = torch.tensor([ratio(level) for level in grid], dtype=torch.float64)
    peer.set_begin_index(0)
    peer.is_scale_input_called = True
    limits = {"s_tmin": s_tmin, "s_tmax": math.inf if s_tmax is None else s_tmax}
    for k, (now, after) in enumerate(pairwise(grid)):
        z = noise(k + 1)
        monkeypatch.setattr("diffusers.schedulers.scheduling_euler_discrete.randn_tensor", lambda *_, z=z, **__: z)
        output, sample = crooked(process())(*ours.asked[k]).x0, Unrounded(x / now.alpha)
        step = peer.step(output, peer.timesteps[k], sample, s_churn=s_churn, s_noise=1.003, **limits)
        x = after.alpha * step.prev_sample
        torch.testing.assert_close(mine[k], x, rtol=1e-6, atol=1e-6)


def test_euler_without_churn_is_ddim() -> None:
    x = random_x(2, 1, 4, 4)
    got = sampler("euler", clip_x0=True, spacing="uniform")(crooked(process()), x, num_steps=7, noise=no_noise)
    ddim = sampler("ddim", clip_x0=True)(crooked(process()), x, num_steps=7, noise=no_noise)
    assert torch.equal(got, ddim)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_churn_asks_the_network_at_the_level_raised(name: str) -> None:
    """sigma/alpha grows by 1 + S_churn/N, at most √2; and never beyond the schedule's noisiest level."""
    forward = process()
    grid = noise_grid(forward, 8, spacing="karras")
    x = random_x(1, 1, 2, 2)
    for s_churn, factor in ((0.8, 1.1), (1000.0, math.sqrt(2))):
        denoiser = crooked(forward)
        walk(sampler(name, s_churn=s_churn), denoiser, x, grid, numbered_noise(x.shape))
        first = [t for _, t in denoiser.asked][:: 2 if name == "heun" else 1]
        for level, t in zip(grid[:-1], first, strict=True):
            snr = forward.levels(torch.tensor([t], dtype=torch.float64)).snr.item()
            assert snr**-0.5 == pytest.approx(min(factor * ratio(level), ratio(grid[0])), rel=1e-9)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_churn_takes_noise_only_within_its_limits(name: str) -> None:
    grid, x, asked = finite_grid(process(), 6, spacing="log-snr"), random_x(1, 1, 2, 2), []

    def noise(k: int) -> torch.Tensor:
        asked.append(k)
        return torch.zeros_like(x)

    low, high = ratio(grid[4]), ratio(grid[2])
    walk(sampler(name, s_churn=1.0, s_tmin=low, s_tmax=high), crooked(process()), x, grid, noise)
    assert asked == [3, 4, 5]


@pytest.mark.parametrize("kind", [Euler, Heun])
@pytest.mark.parametrize(
    "options, message",
    [
        ({"s_noise": 1.01}, "s_noise: no effect with s_churn=0"),
        ({"s_tmin": 0.1, "s_tmax": 1}, "s_tmin, s_tmax: no effect with s_churn=0"),
        ({"s_churn": 1, "s_tmin": 2, "s_tmax": 1}, "must not be less than s_tmin"),
        ({"s_churn": -1}, "s_churn"),
    ],
)
def test_options_that_are_refused(kind: type, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.Options(**options)


def test_heun_converges_from_a_schedules_own_end() -> None:
    """Cosine ends at a sigma/alpha of 20,000, from which a trapezoid would displace every image, however many steps."""
    forward, x = process("cosine"), random_x(4, 1, 2, 2)
    alpha, sigma = forward.alpha[-1], forward.sigma[-1]
    last = noise_grid(forward, 1, spacing="uniform")[0]
    errors = []
    for num_steps in (25, 50, 100):
        made = sampler("heun")
        grid = made.grid(forward, num_steps)[:-1]
        denoiser = gaussian(forward, mean=0.3, std=0.5)
        got = walk(made, denoiser, x, grid, no_noise)[-1]
        kept = (x - alpha * 0.3) / (alpha**2 * 0.25 + sigma**2).sqrt()
        end = grid[-1]
        exact = end.alpha * 0.3 + kept * (end.alpha**2 * 0.25 + end.sigma**2) ** 0.5
        errors.append((got - exact).abs().max().item())
    assert grid[0] == last
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3
