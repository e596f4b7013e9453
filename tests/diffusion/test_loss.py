import math

import pytest
import torch

from debiasctl import registry
from debiasctl.api import Prediction
from debiasctl.diffusion.loss import squared_error, uncertain_losses, weighted_losses
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.parameterization import PREDICTIONS, Output, Parameterization
from debiasctl.diffusion.process import NoiseLevels, per_image, process_of

SIGMA_DATA = 0.4
# the loss on x0 that each scheme is, as its paper defines it
PER_X0 = {
    "constant": lambda snr: snr,
    "debiased": lambda snr: snr.sqrt(),
    "min-snr": lambda snr: snr.clamp(max=5),
    "p2": lambda snr: snr / (1 + snr),
    "edm": lambda snr: snr + 4,
}
UNIFORMS = torch.tensor([0.0, 0.02, 0.31, 0.55, 0.7324, 0.9, 0.99, 0.9999], dtype=torch.float64)


def objective(prediction: Prediction, weighting: str, schedule: str) -> Objective:
    process = process_of(registry.create("schedules", schedule))
    return Objective(
        Parameterization(prediction, process, sigma_data=SIGMA_DATA),
        registry.create("weightings", weighting),
        registry.create("timesteps", "uniform"),
        normalize="none",
    )


class Small(torch.nn.Module):
    """An image as large as the one given, in float64."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(5)
            layers = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(4, 2, 3, padding=1)
        self.layers = torch.nn.Sequential(*layers).double()

    def forward(self, x):
        return self.layers(x)


def draw(objective: Objective) -> Draw:
    positions = torch.arange(len(UNIFORMS))
    # the first 0 of rectified flow is no noise at all, from which no eps follows
    uniforms = UNIFORMS.clamp(min=1e-3) if objective.process.place == 1 else UNIFORMS
    return objective.draw(uniforms, shared=torch.zeros(1), positions=positions, batch_size=len(positions), progress=0.0)


def gradients(parameterization: Parameterization, levels: NoiseLevels, weight: torch.Tensor) -> list[torch.Tensor]:
    """The gradients of x0_hat [N, C, H, W], of the network's weights [P], and of x0_hat for weight 1 on x0.

    The network gives x0_hat, and F is what a network of that prediction would give where this x0_hat follows from it.
    """
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, len(UNIFORMS), 2, 5, 5, generator=generator, dtype=torch.float64)
    x_t = parameterization.process.add_noise(x0, eps, levels)
    network = Small()
    x0_hat = network(x_t)
    x0_hat.retain_grad()
    alpha, sigma = per_image(levels.alpha, levels.sigma, like=x0)
    output = parameterization.target(x0_hat, (x_t - alpha * x0_hat) / sigma, levels)
    implied = parameterization.estimate(Output(output), x_t, levels).x0
    torch.testing.assert_close(implied, x0_hat, rtol=1e-9, atol=1e-9)

    weighted_losses(output, parameterization.target(x0, eps, levels), weight).mean().backward()
    of_weights = torch.cat([parameter.grad.flatten() for parameter in network.parameters()])
    return [x0_hat.grad, of_weights, 2 * (x0_hat - x0).detach() / x0.numel()]


SCHEDULES = {
    "linear": PREDICTIONS,
    "cosine": PREDICTIONS,
    "edm": PREDICTIONS,  # between timesteps too
    "linear:zero_terminal_snr=true": ("x0", "v", "flow"),
    "cosine:zero_terminal_snr=true": ("x0", "v", "flow"),
    "flow": ("x0", "v", "flow"),  # between timesteps too
    "flow:shift=3,continuous=false": ("x0", "v", "flow"),
}


def agree(first: torch.Tensor, second: torch.Tensor) -> bool:
    """To 1e-6, image by image, however small the weight of one is."""
    first, second = first.reshape(len(UNIFORMS), -1), second.reshape(len(UNIFORMS), -1)
    return bool(((first - second).norm(dim=1) <= 1e-6 * second.norm(dim=1)).all())


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("weighting", list(PER_X0))
def test_one_scheme_has_one_gradient_whatever_the_network_predicts(weighting: str, schedule: str) -> None:
    """The gradient of the loss with respect to the image that the network implies, and so to all that leads there."""
    made = {prediction: objective(prediction, weighting, schedule) for prediction in SCHEDULES[schedule]}
    draws = {prediction: draw(one) for prediction, one in made.items()}
    levels = draws["v"].levels
    assert ("zero_terminal" in schedule or "continuous=false" in schedule) == bool((levels.snr == 0).any())
    per_x0 = PER_X0[weighting](levels.snr.clamp(min=1e-20)).reshape(-1, 1, 1, 1)
    _, of_weights_by_v, _ = gradients(made["v"].parameterization, levels, draws["v"].weight)
    for prediction, one in made.items():
        of_image, of_weights, unit = gradients(one.parameterization, levels, draws[prediction].weight)
        assert agree(of_image, per_x0 * unit), prediction
        assert (of_weights - of_weights_by_v).norm() <= 1e-6 * of_weights_by_v.norm(), prediction
        for other in set(made) - {prediction}:  # whose weight makes it another loss
            of_image, _, unit = gradients(one.parameterization, levels, draws[other].weight)
            assert not agree(of_image, per_x0 * unit), (prediction, other)


REFS = [
    record.name
    for record in registry.records("weightings")
    if not any(field.is_required() for field in registry.load("weightings", record.name).Options.model_fields.values())
] + ["product:factors=[min-snr,constant-flow],space=flow", "table:axis=snr,space=x0,points=[[0,0.1],[1,0.5],[1e20,2]]"]


def errors_and_gradients(objective: Objective, drawn: Draw) -> list[torch.Tensor]:
    """Each image's error [N] in the unit of the network's output, and its gradient at the network's weights [N, P]."""
    parameterization = objective.parameterization
    x0, eps = torch.randn(2, len(UNIFORMS), 2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_t = parameterization.process.add_noise(x0, eps, drawn.levels)
    network = Small()
    x0_hat = network(x_t)
    alpha, sigma = per_image(drawn.levels.alpha, drawn.levels.sigma, like=x0)
    output = parameterization.target(x0_hat, (x_t - alpha * x0_hat) / sigma, drawn.levels)
    errors = squared_error(output, parameterization.target(x0, eps, drawn.levels))
    rows = [torch.autograd.grad(error, list(network.parameters()), retain_graph=True) for error in errors]
    return [errors.detach(), torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])]


def weighted(found: list[torch.Tensor], weight: torch.Tensor) -> list[torch.Tensor]:
    """The losses [N] and the gradient of their mean [P]."""
    errors, rows = found
    return [weight * errors, (weight / len(weight)) @ rows]


def apart(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """The largest difference, relative to each loss and to the largest entry of the gradient."""
    of_losses = ((first[0] - second[0]).abs() / second[0]).max().item()
    return max(of_losses, ((first[1] - second[1]).abs().max() / second[1].abs().max()).item())


@pytest.mark.parametrize("schedule", list(SCHEDULES))
def test_every_weighting_is_one_objective_in_every_unit_to_ten_digits(schedule: str) -> None:
    plain = {prediction: objective(prediction, "constant", schedule) for prediction in SCHEDULES[schedule]}
    found = {prediction: errors_and_gradients(one, draw(one)) for prediction, one in plain.items()}
    for weighting in REFS:
        weights = {prediction: draw(objective(prediction, weighting, schedule)).weight for prediction in found}
        by_x0 = weighted(found["x0"], weights["x0"])
        for prediction, weight in weights.items():
            assert apart(weighted(found[prediction], weight), by_x0) < 1e-10, (weighting, prediction)
            for other in set(weights) - {prediction}:  # as a control: another unit's factor is another objective
                wrong = weighted(found[prediction], weights[other])
                assert apart(wrong, by_x0) > 1e-3, (weighting, prediction, other)


def test_errors_are_means_over_channels_and_pixels() -> None:
    prediction, target = torch.randn(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weight = torch.tensor([0.0, 2.0, 5.0], dtype=torch.float64)
    expected = [sum(((prediction[i] - target[i]) ** 2).flatten().tolist()) / 40 for i in range(3)]
    assert squared_error(prediction, target).tolist() == pytest.approx(expected, rel=1e-12)
    weighted = [0, 2 * expected[1], 5 * expected[2]]
    assert weighted_losses(prediction, target, weight).tolist() == pytest.approx(weighted, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 200.0])
def test_the_best_log_variance_is_the_log_of_the_expected_loss(scale: float) -> None:
    losses = scale * torch.rand(1000, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 3
    best = losses.mean().log()
    u = best.clone().requires_grad_()
    least = uncertain_losses(losses, u.expand(1000)).mean()
    (slope,) = torch.autograd.grad(least, u)
    assert slope.item() == pytest.approx(0, abs=1e-12)
    assert least.item() == pytest.approx(1 + best.item(), rel=1e-12)
    for away in (-2.0, -0.01, 0.01, 2.0):
        expected = math.exp(-away) + best.item() + away
        assert uncertain_losses(losses, (best + away).expand(1000)).mean().item() == pytest.approx(expected, rel=1e-12)
        assert expected > least.item()
