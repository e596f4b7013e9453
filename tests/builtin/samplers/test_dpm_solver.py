"""DPM-Solver and DPM-Solver++ against diffusers, and their options."""

import math

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from sampler_cases import (
    KnownDenoiser,
    crooked,
    finite_grid,
    no_noise,
    numbered_noise,
    process,
    random_x,
    sampler,
    walk,
)
from scipy.integrate import quad

from debiasctl.builtin.samplers.dpm_solver import DPMSolver
from debiasctl.builtin.samplers.dpm_solver_pp import DPMSolverPP
from debiasctl.diffusion.grid import Level, Spacing, noise_grid
from debiasctl.diffusion.grid_sampler import GridSampler

PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


def compare(ours: GridSampler, peer: DPMSolverMultistepScheduler, grid: list[Level], prediction: str) -> None:
    """Every step of both, from the same images; diffusers rounds its noise levels to float32, so they are set."""
    forward, x = process(), random_x(2, 3, 4, 4)
    noise = numbered_noise(x.shape)
    mine = walk(ours, crooked(forward), x, grid, noise)
    peer.set_timesteps(len(grid) - 1)
    peer.sigmas = torch.tensor([level.sigma / level.alpha for level in grid], dtype=torch.float64)
    peer.set_begin_index(0)
    theirs = crooked(forward)
    for k, level in enumerate(grid[:-1], start=1):
        output = getattr(theirs(x, level.t), prediction)
        got = peer.step(output, peer.timesteps[k - 1], x, variance_noise=noise(k)).prev_sample
        torch.testing.assert_close(mine[k - 1], got, rtol=1e-5, atol=1e-5)
        x = mine[k - 1]  # theirs is rounded to float32 at each step, which this denoiser would amplify


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", ["linspace", "karras"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10, 25])
@pytest.mark.parametrize(
    "kind, options",
    [
        ("dpmsolver++", {"order": 1}),
        ("dpmsolver++", {"order": 2}),
        ("dpmsolver++", {"order": 3}),
        ("sde-dpmsolver++", {"order": 1, "stochastic": True}),
        ("sde-dpmsolver++", {"order": 2, "stochastic": True}),
    ],
)
def test_every_step_of_dpm_solver_pp_is_diffusers(
    kind: str, options: dict, num_steps: int, spacing: Spacing, prediction: str
) -> None:
    grid = noise_grid(process(), num_steps, spacing=spacing)
    peer = DPMSolverMultistepScheduler(
        solver_order=options["order"], algorithm_type=kind, prediction_type=PREDICTIONS[prediction]
    )
    compare(sampler("dpm-solver++", **options), peer, grid, prediction)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("num_steps", [2, 10, 25])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("algorithm", ["dpm-solver", "dpm-solver++"])
def test_every_step_to_a_last_level_with_noise_is_diffusers(
    algorithm: str, order: int, num_steps: int, prediction: str
) -> None:
    """diffusers' dpmsolver cannot end at the clean image. With its lower_order_final it would, unlike the paper, take
    a last step of first order wherever it ends."""
    grid = noise_grid(process(), num_steps + 1, spacing="linspace")[:-1]
    peer = DPMSolverMultistepScheduler(
        solver_order=order,
        algorithm_type=algorithm.replace("-", "", 1),
        prediction_type=PREDICTIONS[prediction],
        final_sigmas_type="sigma_min",
        lower_order_final=False,
    )
    compare(sampler(algorithm, order=order), peer, grid, prediction)


@pytest.mark.parametrize("algorithm", ["dpm-solver", "dpm-solver++"])
@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_first_order_is_ddim(algorithm: str, num_steps: int) -> None:
    x = random_x(2, 1, 4, 4)
    got = sampler(algorithm, order=1, clip_x0=True, spacing="uniform")(
        crooked(process()), x, num_steps=num_steps, noise=no_noise
    )
    ddim = sampler("ddim", clip_x0=True)(crooked(process()), x, num_steps=num_steps, noise=no_noise)
    torch.testing.assert_close(got, ddim, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("schedule", ["linear", "linear:zero_terminal_snr=true"])
@pytest.mark.parametrize("num_steps", [1, 2, 9])
def test_first_order_stochastic_is_ddpm(num_steps: int, schedule: str) -> None:
    x = random_x(2, 1, 4, 4)
    noise = numbered_noise(x.shape)
    stochastic = sampler("dpm-solver++", order=1, stochastic=True, spacing="uniform")
    got = stochastic(crooked(process(schedule)), x, num_steps=num_steps, noise=noise)
    ddpm = sampler("ddpm")(crooked(process(schedule)), x, num_steps=num_steps, noise=noise)
    torch.testing.assert_close(got, ddpm, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("algorithm", ["dpm-solver", "dpm-solver++"])
def test_full_curvature_integrates_a_parabola_in_log_snr_exactly(algorithm: str) -> None:
    """Estimates that do not depend on x: a step is then an integral over log-SNR (arXiv 2206.00927, Eq. 3.4)."""
    forward, data = process(), algorithm == "dpm-solver++"

    def parabola(half_log_snr: float) -> float:
        return 0.7 - 0.3 * half_log_snr + 0.2 * half_log_snr**2

    def image(x_t: torch.Tensor, alpha: float, sigma: float) -> torch.Tensor:
        value = torch.full_like(x_t, parabola(math.log(alpha / sigma)))
        return value if data else (x_t - sigma * value) / alpha

    grid = finite_grid(forward, 5, spacing="karras")
    solver = sampler(algorithm, order=3, curvature="full")
    visited = walk(solver, KnownDenoiser(forward, image), random_x(1, 1, 1, 1), grid, no_noise)
    for x, got, now, after in zip(visited[1:], visited[2:], grid[2:], grid[3:], strict=False):
        sign = 1 if data else -1
        integral, _ = quad(lambda u, sign=sign: math.exp(sign * u) * parabola(u), now.half_log_snr, after.half_log_snr)
        exact = after.sigma * (x / now.sigma + integral) if data else after.alpha * (x / now.alpha - integral)
        torch.testing.assert_close(got, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "kind, options, message",
    [
        (DPMSolverPP, {"order": 3, "stochastic": True}, "has order 1 or 2, not 3"),
        (DPMSolverPP, {"order": 4}, "less than or equal to 3"),
        (DPMSolver, {"order": 0}, "greater than or equal to 1"),
        (DPMSolver, {"order": 2, "curvature": "full"}, "no effect with order=2"),
        (DPMSolver, {"stochastic": True}, "Extra inputs"),
    ],
)
def test_options_that_are_refused(kind: type, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.Options(**options)
