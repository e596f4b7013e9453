"""The orders of the multistep solvers' last steps, against diffusers and a closed form."""

from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler
from sampler_cases import (
    crooked,
    exact_denoiser,
    exact_flow,
    no_noise,
    process,
    random_x,
    sampler,
    walk,
)

from debiasctl.diffusion.grid import Spacing, noise_grid
from debiasctl.errors import PluginOptionsError
from debiasctl.registry import create

SOLVERS = ("dpm-solver", "dpm-solver++", "unipc")


def diffusers_scheduler(name: str, order: int) -> Any:
    """It ends at the last level with noise, as published, and lowers the order there."""
    common: dict[str, Any] = {
        "solver_order": order,
        "prediction_type": "sample",
        "final_sigmas_type": "sigma_min",
        "lower_order_final": True,
    }
    if name == "unipc":
        return UniPCMultistepScheduler(solver_type="bh2", **common)
    return DPMSolverMultistepScheduler(algorithm_type=name.replace("-", "", 1), **common)


@pytest.mark.parametrize("num_steps", [2, 3, 6, 11])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_lowered_order_is_diffusers_up_to_the_last_level_with_noise(name: str, order: int, num_steps: int) -> None:
    """diffusers rounds its noise levels to float32, so they are set."""
    grid = noise_grid(process(), num_steps, spacing="linspace")
    x = random_x(2, 3, 4, 4)
    mine = walk(sampler(name, order=order, lower_order_final=True), crooked(process()), x, grid, no_noise)
    peer = diffusers_scheduler(name, order)
    peer.set_timesteps(num_steps - 1)
    peer.sigmas = torch.tensor([level.sigma / level.alpha for level in grid[:-1]], dtype=torch.float64)
    peer.set_begin_index(0)
    theirs = crooked(process())
    for k, level in enumerate(grid[:-2], start=1):
        x = peer.step(theirs(x, level.t).x0, peer.timesteps[k - 1], x).prev_sample
        if k < num_steps - 1 or name != "unipc":
            torch.testing.assert_close(mine[k - 1], x, rtol=1e-5, atol=1e-4)
        x = mine[k - 1].clone()


def error(name: str, spacing: Spacing, num_steps: int, order: int, **options: object) -> float:
    """The RMS error at the end, where the last level is denoised, on independent normal pixels."""
    forward, x = process(), random_x(64, 1, 2, 2).reshape(64, 1, 2, 2)
    grid = noise_grid(forward, num_steps, spacing=spacing, sigma_max=80.0)
    made = sampler(name, order=order, spacing=spacing, **options)
    last = walk(made, exact_denoiser(forward, "x0"), x, grid, no_noise)[-1]
    (end,) = noise_grid(forward, 1, spacing="leading")[:1]
    wanted = exact_denoiser(forward, "x0")(exact_flow(x, grid[0], end), end.t).x0
    return (last - wanted).square().mean().sqrt().item()


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize(
    "spacing, num_steps, lower",
    [
        ("uniform", 10, True),
        ("linspace", 10, True),
        ("leading", 10, True),
        ("uniform", 50, True),
        ("quadratic", 15, True),
        ("trailing", 10, False),
        ("log-snr", 50, False),
        ("karras", 50, False),
    ],
)
def test_the_default_is_what_measures_best(
    name: str, order: int, spacing: Spacing, num_steps: int, lower: bool
) -> None:
    default = error(name, spacing, num_steps, order)
    assert default == error(name, spacing, num_steps, order, lower_order_final=lower)
    assert default != error(name, spacing, num_steps, order, lower_order_final=not lower)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_default_is_far_more_exact_on_whole_timesteps(name: str) -> None:
    for spacing in ("uniform", "leading", "linspace"):
        assert error(name, spacing, 10, 2) < 0.95 * error(name, spacing, 10, 2, lower_order_final=False)
    assert error(name, "trailing", 10, 2) < 0.85 * error(name, "trailing", 10, 2, lower_order_final=True)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_option_is_refused_where_it_has_no_effect(name: str) -> None:
    with pytest.raises(PluginOptionsError, match="lower_order_final has no effect with order=1"):
        create("samplers", f"{name}:order=1,lower_order_final=true")
    for value in ("auto", "true", "false"):
        create("samplers", f"{name}:lower_order_final={value}")
