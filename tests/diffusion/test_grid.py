"""Where samplers look: spacings against their papers' rules, and levels between timesteps."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from debiasctl import registry
from debiasctl.api import Level
from debiasctl.diffusion.grid import CLEAN, Spacing, level_at_ratio, levels_at, noise_grid
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.errors import UsageError

SCHEDULES = [
    "linear", "cosine", "sigmoid", "edm", "linear:zero_terminal_snr=true", "cosine:zero_terminal_snr=true"
]  # fmt: skip
SPACINGS = get_args(Spacing)


def make(ref: str = "linear") -> DiffusionProcess:
    return process_of(registry.create("schedules", ref))


def timesteps(num_steps: int, spacing: str, ref: str = "linear") -> list[float]:
    return [level.t for level in noise_grid(make(ref), num_steps, spacing=spacing)[:-1]]


def adm_timesteps(num_timesteps: int, num_steps: int) -> list[int]:
    """ADM's rule for one section: a running position, rounded at each step."""
    stride = (num_timesteps - 1) / (num_steps - 1) if num_steps > 1 else 1
    position, timesteps = 0.0, []
    while len(timesteps) < num_steps:
        timesteps.append(round(position))
        position += stride
    return timesteps


@pytest.mark.parametrize("num_timesteps", [2, 10, 100, 1000])
def test_spacing_is_adms(num_timesteps: int) -> None:
    process = DiffusionProcess(torch.linspace(0.99, 0.01, num_timesteps))
    for num_steps in range(2, num_timesteps + 1):
        found = [level.t for level in noise_grid(process, num_steps, spacing="uniform")[-2::-1]]
        assert found == adm_timesteps(num_timesteps, num_steps)
        assert (found[0], found[-1]) == (0, num_timesteps - 1)


def test_one_step_starts_where_all_is_noise() -> None:
    for spacing in SPACINGS:
        assert timesteps(1, spacing) == ([0] if spacing == "leading" else [999])


@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "leading", "trailing", "linspace"])
@pytest.mark.parametrize("num_steps", [0, -1, 1001])
def test_steps_that_there_are_not(num_steps: int, spacing: str) -> None:
    with pytest.raises(UsageError, match="choose from 1 to 1000"):
        timesteps(num_steps, spacing)


@pytest.mark.parametrize("spacing", ["karras", "log-snr"])
def test_between_timesteps_there_are_as_many_as_one_likes(spacing: str) -> None:
    with pytest.raises(UsageError, match="choose 1 or more"):
        timesteps(0, spacing)
    assert len(set(timesteps(1500, spacing))) == 1500


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 50, 333, 999, 1000])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spacing", SPACINGS)
def test_every_grid_falls_to_the_clean_image(spacing: str, schedule: str, num_steps: int) -> None:
    process = make(schedule)
    grid = noise_grid(process, num_steps, spacing=spacing)
    assert len(grid) == num_steps + 1
    assert grid[-1] is CLEAN
    if spacing != "leading":
        assert grid[0].t == 999
        assert grid[0].alpha == process.alpha[-1].item()
    if spacing not in ("leading", "trailing") and num_steps > 2:
        assert grid[-2].t == pytest.approx(0, abs=1e-9)
    noise = [level.half_log_snr for level in grid]
    assert all(math.isfinite(value) for value in noise[1:-1])
    assert all(before < after for before, after in itertools.pairwise(noise))
    assert all(level.alpha**2 + level.sigma**2 == pytest.approx(1, rel=1e-12) for level in grid)


@pytest.mark.parametrize("num_steps", [2, 7, 10, 50, 333, 1000])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_whole_spacings_are_diffusers(spacing: str, num_steps: int) -> None:
    peer = DDIMScheduler(timestep_spacing=spacing)
    peer.set_timesteps(num_steps)
    assert timesteps(num_steps, spacing) == peer.timesteps.tolist()


def test_the_quadratic_one() -> None:
    assert timesteps(10, "quadratic") == [round(999 * (i / 9) ** 2) for i in range(9, -1, -1)]
    assert timesteps(1000, "quadratic") == list(range(999, -1, -1))  # there is nothing else to choose
    dense = timesteps(500, "quadratic")
    assert all(before > after for before, after in itertools.pairwise(dense))


@pytest.mark.parametrize("schedule", ["linear", "edm", "cosine"])
def test_karras_is_edms_equation(schedule: str) -> None:
    process = make(schedule)
    low, high = ((process.sigma / process.alpha)[index].item() for index in (0, -1))
    found = [level.sigma / level.alpha for level in noise_grid(process, 18, spacing="karras")[:-1]]
    expected = (high ** (1 / 7) + np.arange(18) / 17 * (low ** (1 / 7) - high ** (1 / 7))) ** 7
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    flat = [level.sigma / level.alpha for level in noise_grid(process, 18, spacing="karras", rho=1.0)[:-1]]
    np.testing.assert_allclose(np.diff(flat), np.full(17, (low - high) / 17), rtol=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "edm", "cosine"])
def test_log_snr_is_even(schedule: str) -> None:
    noise = [level.half_log_snr for level in noise_grid(make(schedule), 18, spacing="log-snr")[:-1]]
    np.testing.assert_allclose(np.diff(noise), np.full(17, (noise[-1] - noise[0]) / 17), rtol=1e-9)


@pytest.mark.parametrize("spacing", ["karras", "log-snr"])
def test_of_a_zero_terminal_snr_the_other_steps_share_what_is_finite(spacing: str) -> None:
    found = timesteps(20, spacing, "linear:zero_terminal_snr=true")
    assert found[:2] == [999, 998]
    assert noise_grid(make("linear:zero_terminal_snr=true"), 20, spacing=spacing)[0].half_log_snr == -math.inf


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spacing", ["karras", "log-snr"])
def test_above_the_largest_sigma_there_is_the_last_timestep_alone(spacing: str, schedule: str) -> None:
    process = make(schedule)
    grid = noise_grid(process, 12, spacing=spacing, sigma_max=20.0)
    ratios = [level.sigma / level.alpha if level.alpha else math.inf for level in grid]
    assert (grid[0].t, len(grid)) == (999, 13)
    start = 0 if ratios[0] <= 20 else 1
    assert ratios[start] == pytest.approx(min(20.0, ratios[0]))
    alone = noise_grid(process, 12, spacing=spacing, sigma_max=ratios[0] * 1.001)
    assert alone == noise_grid(process, 12, spacing=spacing)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_level_is_where_its_ratio_says(schedule: str) -> None:
    process = make(schedule)
    finite = process.num_timesteps - 1 - (process.snr[-1] == 0).long().item()
    for t in (0, 1, 17.25, 500.5, finite - 0.125, finite):
        (level,) = levels_at(process, [t])
        again = level_at_ratio(process, level.sigma / level.alpha)
        assert again.t == pytest.approx(t, abs=1e-9)
        assert again.half_log_snr == pytest.approx(level.half_log_snr, rel=1e-9, abs=1e-12)
    assert level_at_ratio(process, 1e-9).t == 0
    assert level_at_ratio(process, 1e9).t == finite


def test_between_two_timesteps_log_snr_is_linear() -> None:
    process = make()
    middle, *ends = levels_at(process, [100.5, 100, 101])
    assert middle.half_log_snr == pytest.approx(sum(level.half_log_snr for level in ends) / 2, rel=1e-12)
    assert ends[0] == Level(100, process.alpha[100].item(), process.sigma[100].item())
    assert torch.equal(process.levels(torch.tensor([3.0])).snr, process.snr[3:4])


@pytest.mark.parametrize("spacing", ["karras", "log-snr"])
def test_levels_that_could_not_be_told_apart_are_refused(spacing: str) -> None:
    with pytest.raises(UsageError, match="Raise sigma_max"):
        noise_grid(make(), 5, spacing=spacing, sigma_max=1e-5)
    two = make("cosine:num_timesteps=2,zero_terminal_snr=true")
    assert [level.t for level in noise_grid(two, 2, spacing=spacing)[:-1]] == [1, 0]
    with pytest.raises(UsageError, match="schedule with more timesteps"):
        noise_grid(two, 3, spacing=spacing)
