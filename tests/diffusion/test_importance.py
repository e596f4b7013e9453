"""`importance` and the other ways of drawing leave the expected gradient: exactly, summed over t, and as drawn."""

from functools import lru_cache

import pytest
import torch
from real_data import digits_dataset
from torch import Tensor, nn

from debiasctl import registry
from debiasctl.analysis.weight_curves import schedule_process
from debiasctl.diffusion.loss import weighted_losses
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.parameterization import Parameterization

T = 20
SCHEDULES = (f"cosine:num_timesteps={T}", f"linear:num_timesteps={T},beta_end=0.015")
ONE = torch.tensor([0.5], dtype=torch.float64)


class Network(nn.Module):
    """A small network in float64 that knows the noise level."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.into, self.out = nn.Linear(65, 16).double(), nn.Linear(16, 64).double()

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        inputs = torch.cat([x.flatten(1), noise_level.double()[:, None] / T], dim=1)
        found: Tensor = self.out(torch.tanh(self.into(inputs)))
        return found.reshape(x.shape)


def make(timesteps: str, schedule: str, *, prediction: str = "eps", weighting: str = "debiased") -> Objective:
    parameterization = Parameterization(prediction, schedule_process(schedule))  # type: ignore[arg-type]
    objective = Objective(
        parameterization, registry.create("weightings", weighting), registry.create("timesteps", timesteps)
    )
    if objective.observes:
        t = torch.arange(T).repeat(10)
        objective.observe(t, 1.0 + t.double() ** 2)
    return objective


@lru_cache
def images(count: int) -> Tensor:
    return digits_dataset(every=6).train.images(torch.arange(count)).double() / 127.5 - 1


def normal(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(
    network: Network, objective: Objective, drawn: Draw, *, x0: Tensor, eps: Tensor, corrected: bool = True
) -> Tensor:
    """Of one batch's loss, as a training step computes it; `corrected=False` leaves base/q out."""
    x_t = objective.process.add_noise(x0, eps, drawn.levels)
    output = objective.parameterization.run(network, x_t, drawn.levels, None)
    target = objective.parameterization.target(x0, eps, drawn.levels)
    losses = weighted_losses(output.prediction, target, drawn.weight)
    loss = ((drawn.correction if corrected else 1) * losses).mean()
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(network.parameters()))])


def expected_gradient(objective: Objective, *, corrected: bool = True) -> Tensor:
    """Σ q(t) gradient(t): every t of the schedule in turn for a whole batch of digits, reached by its own u."""
    network, x0 = Network(), images(12)
    eps = normal(x0.shape, 1)
    q = objective.tables().probability
    total = torch.zeros(())
    for t, u in enumerate((q.cumsum(0) - q / 2).tolist()):
        draws = torch.full((len(x0),), u, dtype=torch.float64)
        drawn = objective.draw(draws, shared=ONE, positions=torch.arange(len(x0)), batch_size=len(x0), progress=0)
        assert drawn.timestep.tolist() == [t] * len(x0)
        total = total + q[t] * gradient(network, objective, drawn, x0=x0, eps=eps, corrected=corrected)
    return total


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "edm"])
@pytest.mark.parametrize("weighting", ["debiased", "min-snr:gamma=2"])
def test_the_expected_gradient_is_that_of_uniform(weighting: str, prediction: str, schedule: str) -> None:
    """Enumerated over t, so that nothing but rounding may differ; without the correction much does."""
    settings = {"schedule": schedule, "prediction": prediction, "weighting": weighting}
    uniform = expected_gradient(make("uniform", **settings))
    for name in ("importance", "loss-second-moment"):
        drawn = make(name, **settings)
        torch.testing.assert_close(
            expected_gradient(drawn), uniform, rtol=1e-10, atol=1e-10 * float(uniform.abs().max())
        )
        control = expected_gradient(drawn, corrected=False)
        assert float((control - uniform).norm() / uniform.norm()) > 0.1


def test_under_a_base_it_is_that_of_the_base() -> None:
    lognormal, uniform = (expected_gradient(make(name, SCHEDULES[0])) for name in ("lognormal", "uniform"))
    under = expected_gradient(make("importance:base=lognormal", SCHEDULES[0]))
    torch.testing.assert_close(under, lognormal, rtol=1e-10, atol=1e-10 * float(lognormal.abs().max()))
    assert float((lognormal - uniform).norm() / uniform.norm()) > 0.1


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_drawn_gradients_agree_within_the_monte_carlo_error(schedule: str) -> None:
    """Batches of digits with their own t and noise: the means along two directions differ by chance alone.

    The directions are the expected gradient and, orthogonal to it, where the missing correction would lead; z is the
    difference in standard errors, which the batches' own spread gives.
    """
    batches, size = 100, 128
    network, data = Network(), images(1400)
    uniform, importance = make("uniform", schedule), make("importance", schedule)
    right, wrong = expected_gradient(importance), expected_gradient(importance, corrected=False)
    directions = torch.linalg.qr(torch.stack([right, wrong], dim=1)).Q.T

    def means(objective: Objective, seed: int, corrected: bool = True) -> Tensor:
        found, positions = [], torch.arange(size)
        generator = torch.Generator().manual_seed(seed)
        for number in range(batches):
            x0 = data[torch.randint(len(data), (size,), generator=generator)]
            u = torch.rand(size, generator=generator, dtype=torch.float64)
            drawn = objective.draw(u, shared=ONE, positions=positions, batch_size=size, progress=0)
            eps = normal(x0.shape, 1000 * seed + number)
            found.append(directions @ gradient(network, objective, drawn, x0=x0, eps=eps, corrected=corrected))
        return torch.stack(found)

    reference = means(uniform, 1)

    def z(found: Tensor) -> Tensor:
        error = ((found.var(0) + reference.var(0)) / batches).sqrt()
        return (found.mean(0) - reference.mean(0)) / error

    assert float(z(means(importance, 2)).abs().max()) < 4
    assert float(z(means(importance, 2, corrected=False)).abs().max()) > 30
