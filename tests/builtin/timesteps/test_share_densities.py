"""The distributions of time, or of the share of noise, against diffusers, SciPy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats
from timestep_cases import context, make

from debiasctl import registry
from debiasctl.builtin.timesteps.mode import LARGEST
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess

ZERO = "cosine:num_timesteps=100,zero_terminal_snr=true"


def cosmap(x: float) -> float:
    """The density of 2403.03206, Sec. 3.1, integrated numerically."""
    return integrate.quad(lambda y: 2 / (math.pi * (1 - 2 * y + 2 * y * y)), 0, x)[0]


def mode(scale: float, w: np.ndarray) -> np.ndarray:
    """The paper's map at u = 1 - w."""
    u = 1 - w
    return 1 - u - scale * (np.cos(math.pi * u / 2) ** 2 - 1 + u)


DISTRIBUTIONS = {
    "logit-normal:mean=0.7,std=0.8": lambda x: stats.norm(0.7, 0.8).cdf(special.logit(x)),
    "cosmap": cosmap,
    "beta": stats.beta(2, 2).cdf,
    "beta:alpha=1.5,beta=0.8": stats.beta(1.5, 0.8).cdf,
    "mode:scale=-1": lambda x: 2 / math.pi * math.asin(math.sqrt(x)),  # there the map is sin²(πw/2)
    "mode:scale=0": lambda x: x,
}


def with_variable(ref: str, variable: str) -> str:
    return f"{ref}{',' if ':' in ref else ':'}variable={variable}"


def share_of_noise(process: DiffusionProcess) -> np.ndarray:
    return (process.sigma / (process.alpha + process.sigma)).numpy()


def probabilities(ref: str, schedule: str) -> np.ndarray:
    return registry.create("timesteps", ref).probabilities(context(schedule)).numpy()


@pytest.mark.parametrize("ref", DISTRIBUTIONS)
def test_over_time_the_bins_are_exact(ref: str) -> None:
    q = probabilities(ref, "linear:num_timesteps=50")
    edges = np.array([DISTRIBUTIONS[ref](t / 50) for t in range(51)])
    np.testing.assert_allclose(q, np.diff(edges), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("schedule", ["linear:num_timesteps=100", "edm:num_timesteps=200", ZERO])
@pytest.mark.parametrize("ref", DISTRIBUTIONS)
def test_over_the_share_of_noise_the_bins_are_those_of_the_levels(ref: str, schedule: str) -> None:
    """From one level's share to the next one's, cut off above the last, on every table of SNRs."""
    shares = share_of_noise(make(schedule))
    edges = np.array([DISTRIBUTIONS[ref](share) for share in (0.0, *shares)])
    q = probabilities(with_variable(ref, "s"), schedule)
    np.testing.assert_allclose(q, np.diff(edges) / edges[-1], rtol=1e-6, atol=1e-12)
    assert q.sum() == pytest.approx(1, rel=1e-12)
    assert (shares[-1] == 1) == (schedule == ZERO)


@pytest.mark.parametrize("scale", [-0.5, 0.8, 1.29, LARGEST])
def test_mode_inverts_the_papers_map(scale: float) -> None:
    cumulative = probabilities(f"mode:scale={scale}", "linear:num_timesteps=64").cumsum()
    np.testing.assert_allclose(mode(scale, cumulative[:-1]), np.arange(1, 64) / 64, rtol=0, atol=1e-12)


def test_mode_turns_back_just_beyond_the_scales_that_are_allowed() -> None:
    w = np.linspace(0, 1, 10_001)
    assert (np.diff(mode(LARGEST, w)) > 0).all()
    assert (np.diff(mode(-1, w)) > 0).all()
    assert (np.diff(mode(LARGEST + 0.01, w)) < 0).any()
    assert (np.diff(mode(-1.01, w)) < 0).any()


@pytest.mark.parametrize("ref", ["logit-normal:mean=0.4", "cosmap", "beta:alpha=3", "mode"])
def test_on_rectified_flow_time_is_the_share_of_noise(ref: str) -> None:
    by_time, by_share = (probabilities(with_variable(ref, variable), "flow:shift=1") for variable in ("time", "s"))
    np.testing.assert_allclose(by_share, by_time, rtol=1e-9, atol=1e-15)
    shifted = (
        probabilities(with_variable(ref, "time"), "flow:shift=3"),
        probabilities(with_variable(ref, "s"), "flow:shift=3"),
    )
    assert abs(shifted[0].cumsum() - shifted[1].cumsum()).max() > 0.1  # with a shift they are two


def drawn(ref: str, schedule: str) -> tuple[np.ndarray, np.ndarray]:
    """Uniform numbers, and the shares of noise of continuous training that are their quantiles."""
    numbers = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    objective = Objective(
        Parameterization("x0", make(schedule)),
        registry.create("weightings", "constant"),
        registry.create("timesteps", ref),
    )
    positions = torch.arange(len(numbers))
    draw = objective.draw(numbers, shared=numbers[:1], positions=positions, batch_size=len(numbers), progress=0)
    return numbers.numpy(), (draw.levels.sigma / (draw.levels.alpha + draw.levels.sigma)).numpy()


@pytest.mark.parametrize(("ref", "shift"), [("logit-normal:mean=0.4", 1), ("mode", 3), ("beta:variable=s", 3)])
def test_continuous_training_on_rectified_flow_draws_the_shares_themselves(ref: str, shift: float) -> None:
    numbers, share = drawn(ref, f"flow:shift={shift}")
    time = share if "variable=s" in ref else share / (shift - (shift - 1) * share)
    distribution = {
        "logit-normal:mean=0.4": lambda x: stats.norm(0.4, 1).cdf(special.logit(x)),
        "mode": lambda x: np.interp(x, mode(1.29, np.linspace(0, 1, 20_001)), np.linspace(0, 1, 20_001)),
        "beta:variable=s": stats.beta(2, 2).cdf,
    }[ref]
    np.testing.assert_allclose(distribution(time), numbers, rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", ["edm", "cosine:continuous=true"])
def test_continuous_training_draws_half_a_step_beyond_the_ends_of_other_schedules(schedule: str) -> None:
    """cosmap over the share of noise makes the angle uniform between the levels that are drawn."""
    numbers, share = drawn("cosmap:variable=s", schedule)
    angle, ends = np.arctan2(share, 1 - share), make(schedule).log_snr_at(torch.tensor([-0.5, 999.5]).double())
    low, high = np.arctan((-ends / 2).exp().numpy())
    np.testing.assert_allclose(angle, low + numbers * (high - low), rtol=0, atol=4e-4)  # a quarter of a step


def test_cosmap_over_the_share_of_noise_makes_the_angle_uniform() -> None:
    process, q = make("linear"), probabilities("cosmap:variable=s", "linear")
    angle = torch.atan2(process.sigma, process.alpha).numpy()
    np.testing.assert_allclose(q.cumsum(), angle / angle[-1], rtol=1e-10)


def test_the_logit_normal_of_the_share_is_lognormal() -> None:
    """logit(s) = ln(sigma/alpha), on any schedule, up to the width of a timestep."""
    cumulative = [
        probabilities(f"{name}:mean=-0.4,std=1{option}", "edm:num_timesteps=4000").cumsum()
        for name, option in (("logit-normal", ",variable=s"), ("lognormal", ""))
    ]
    np.testing.assert_allclose(*cumulative, rtol=0, atol=1e-3)


def test_a_density_beyond_the_last_level_is_at_the_last() -> None:
    q = probabilities("logit-normal:mean=400,std=0.1,variable=s", "linear")
    assert (q[-1], q.sum()) == (1, 1)
    near = probabilities("logit-normal:mean=8,std=0.3,variable=s", "linear")
    assert near.sum() == pytest.approx(1, rel=1e-12)
    assert near.argmax() == 999


DIFFUSERS = {
    "logit-normal:mean=-0.5,std=0.8": ("logit_normal", {"logit_mean": 0.5, "logit_std": 0.8}),  # the other sign
    "mode": ("mode", {"mode_scale": 1.29}),
    "mode:scale=-0.7": ("mode", {"mode_scale": -0.7}),
}


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("ref", DIFFUSERS)
def test_drawn_as_by_the_training_scripts_of_diffusers(ref: str, shift: float) -> None:
    """The number is looked up among timesteps from noise to image; each has the noise that the shift gives it."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.training_utils import compute_density_for_timestep_sampling

    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
    name, options = DIFFUSERS[ref]
    generator = torch.Generator().manual_seed(0)
    drawn = compute_density_for_timestep_sampling(name, 400_000, **options, generator=generator)
    sigmas = scheduler.sigmas[(drawn * 1000).long().clamp(max=999)].double().numpy()
    share = share_of_noise(make(f"flow:shift={shift}"))
    cumulative = probabilities(ref, f"flow:shift={shift}").cumsum()
    found = np.searchsorted(np.sort(sigmas), share + 1e-6) / len(sigmas)
    np.testing.assert_allclose(found, cumulative, rtol=0, atol=1.95 / math.sqrt(len(sigmas)))  # Kolmogorov, 0.1 %


def test_cosmap_as_a_density_or_as_a_weight_is_one_objective_and_both_are_its_square() -> None:
    """diffusers has the formula as a weight on u at uniform times: density times weight is what counts."""
    from diffusers.training_utils import compute_loss_weighting_for_sd3

    middle = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    weight = compute_loss_weighting_for_sd3("cosmap", middle)
    density = probabilities("cosmap", "linear:num_timesteps=4000") * 4000
    np.testing.assert_allclose(density, weight.numpy(), rtol=1e-6)
    np.testing.assert_allclose(density * weight.numpy(), weight.numpy() ** 2, rtol=1e-6)
