"""Rectified flow against a plain loop of its own, and against diffusers' scheduler."""

import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn

from debiasctl import registry
from debiasctl.api import Prediction
from debiasctl.builtin.samplers.ddim import DDIM
from debiasctl.builtin.samplers.euler import Euler
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.loss import weighted_losses
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.errors import UsageError

UNIFORMS = torch.linspace(0.003, 0.997, 16, dtype=torch.float64)


def process(ref: str = "flow") -> DiffusionProcess:
    return process_of(registry.create("schedules", ref))


def objective(weighting: str, schedule: str = "flow", timesteps: str = "uniform", **settings: str) -> Objective:
    prediction: Prediction = settings.pop("prediction", "flow")  # type: ignore[assignment]
    return Objective(
        Parameterization(prediction, process(schedule)),
        registry.create("weightings", weighting),
        registry.create("timesteps", timesteps),
        normalize=settings.pop("normalize", "none"),  # type: ignore[arg-type]
    )


def draw(made: Objective, uniforms: Tensor = UNIFORMS) -> Draw:
    positions = torch.arange(len(uniforms))
    return made.draw(uniforms, shared=torch.zeros(1), positions=positions, batch_size=len(uniforms), progress=0.0)


def share_of_noise(levels: object) -> Tensor:
    return levels.sigma / (levels.alpha + levels.sigma)


class Velocity(nn.Module):
    """A network that looks at its images and its time."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.layer = nn.Conv2d(1, 1, 3, padding=1).double()

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        time = noise_level.reshape(-1, 1, 1, 1) / 1000
        return torch.tanh(self.layer(x) + time) + 0.1 * x


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize(
    ("weighting", "of_s"), [("constant-flow", torch.ones_like), ("debiased", lambda s: s * (1 - s))]
)
def test_training_is_a_plain_loop_of_rectified_flow(weighting: str, of_s: object, shift: float) -> None:
    x0, eps = torch.randn(2, 16, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = Velocity()
    s = shift * UNIFORMS / (1 + (shift - 1) * UNIFORMS)
    x_s = (1 - s).reshape(-1, 1, 1, 1) * x0 + s.reshape(-1, 1, 1, 1) * eps
    expected = of_s(s) * (plain(x_s, 1000 * s) - (eps - x0)).square().mean((1, 2, 3))
    expected.mean().backward()

    made, ours = objective(weighting, f"flow:shift={shift}"), Velocity()
    drawn = draw(made)
    torch.testing.assert_close(share_of_noise(drawn.levels), s, rtol=1e-12, atol=0)
    x_t = made.process.add_noise(x0, eps, drawn.levels)
    output = made.parameterization.run(ours, x_t, drawn.levels, None).prediction
    losses = weighted_losses(output, made.parameterization.target(x0, eps, drawn.levels), drawn.weight)
    torch.testing.assert_close(losses, expected, rtol=1e-10, atol=0)
    losses.mean().backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-14)


def test_draws_keep_off_the_ends_where_there_is_no_noise_and_no_image() -> None:
    made = objective("constant-flow")
    s = share_of_noise(draw(made, torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)).levels)
    assert 0 < s[0] < 1e-9
    assert 1e-13 < 1 - s[1] < 1e-9


@pytest.mark.parametrize(
    ("schedule", "timesteps"),
    [
        ("flow", "logit-normal:mean=-0.8,std=0.8"),
        ("flow", "lognormal:mean=-0.8,std=0.8"),
        ("flow:shift=3", "logit-normal:mean=-0.8,std=0.8,variable=s"),
        ("flow:shift=3", "lognormal:mean=-0.8,std=0.8"),
    ],
)
def test_s_is_logit_normal_where_it_is_meant_to_be(schedule: str, timesteps: str) -> None:
    """The distribution function of s is the normal one of its logit, up to the width of a timestep's share."""
    made = objective("constant-flow", schedule, timesteps)
    uniforms = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    s = share_of_noise(draw(made, uniforms).levels)
    assert bool((s.diff() > 0).all())
    z = (torch.logit(s) + 0.8) / 0.8
    torch.testing.assert_close(torch.special.ndtr(z), uniforms, rtol=0, atol=2e-3)


def test_normalisation_takes_the_middle_of_what_is_drawn_at_each_timestep() -> None:
    """The mean of s(1 - s) is 1/6; the last timestep alone, s = 1, would weigh nothing, and is drawn from below."""
    made = objective("debiased", normalize="mean")
    assert made.mean_weight() == pytest.approx(1 / 6, rel=1e-6)
    s = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    torch.testing.assert_close(made.tables().weight, 6 * s * (1 - s), rtol=1e-5, atol=0)


def test_jits_objective_has_no_mean_but_that_of_the_grid() -> None:
    """x0-prediction with the loss on flow weighs 1/s², whose mean over s in (0, 1) is infinite."""
    for num_timesteps in (100, 1000):
        made = objective("constant-flow", f"flow:num_timesteps={num_timesteps}", prediction="x0")
        drawn = draw(made)
        torch.testing.assert_close(drawn.weight, share_of_noise(drawn.levels) ** -2, rtol=1e-9, atol=0)
        assert made.mean_weight() == pytest.approx(num_timesteps * math.pi**2 / 2, rel=0.01)


@pytest.mark.parametrize("prediction", ["eps", "edm"])
def test_what_cannot_be_predicted_from_noise_alone_is_refused(prediction: Prediction) -> None:
    with pytest.raises(UsageError, match=rf"{prediction}-prediction cannot.*Use `prediction=v`, x0 or flow"):
        Parameterization(prediction, process())


# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize("sampler", [Euler, DDIM])
def test_a_step_is_diffusers_euler_step(sampler: type) -> None:
    """In 28 steps, whose levels are whole timesteps; each from the images that our sampler had there."""
    made = process()
    denoiser = NetworkDenoiser(Velocity(), Parameterization("flow", made))
    ours = sampler(sampler.Options(spacing="linspace", clip_x0=False))
    peer = FlowMatchEulerDiscreteScheduler()
    peer.set_timesteps(28)
    grid = ours.grid(made, 28)
    s = torch.tensor([level.sigma / (level.alpha + level.sigma) for level in grid], dtype=torch.float64)
    torch.testing.assert_close(s, peer.sigmas.double(), rtol=0, atol=1e-6)
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    steps = []
    with torch.no_grad():
        ours(denoiser, x, num_steps=28, noise=lambda k: x, on_step=lambda done, x, x0: steps.append(x))
        for now, after, time, got in zip(grid, grid[1:], peer.timesteps, steps, strict=False):
            x_s = x / (now.alpha + now.sigma)
            velocity = denoiser.network(x_s, time.double().expand(2))
            expected = peer.step(velocity, time, x_s).prev_sample
            torch.testing.assert_close(got / (after.alpha + after.sigma), expected, rtol=1e-6, atol=1e-6)
            x = got
