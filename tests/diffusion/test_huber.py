"""Huber losses against the formulas of sd-scripts and SimpleTuner, in this test's own words."""

import math

import pytest
import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.diffusion.loss import Huber, squared_error, weighted_losses
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.errors import UsageError

T = torch.tensor([0, 10, 400, 999])


def process(schedule: str = "linear:zero_terminal_snr=true") -> DiffusionProcess:
    return process_of(registry.create("schedules", schedule))


def as_trainers_compute(c: float, schedule: str) -> list[float]:
    """The threshold at each of T, for DDPM's levels."""
    found = []
    for t, alphas_cumprod in zip(T.tolist(), process().alphas_cumprod[T].tolist(), strict=True):
        if schedule == "exponential":
            found.append(math.exp(math.log(c) / 1000 * t))
        elif schedule == "snr":
            sigma = math.sqrt((1 - alphas_cumprod) / alphas_cumprod) if alphas_cumprod else math.inf
            found.append((1 - c) / (1 + sigma) ** 2 + c)
        else:
            found.append(c)
    return found


@pytest.mark.parametrize("smooth_l1", [False, True])
@pytest.mark.parametrize("c", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("schedule", ["constant", "exponential", "snr"])
def test_it_is_the_loss_that_trainers_have(schedule: str, c: float, smooth_l1: bool) -> None:
    prediction, target = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = []
    for i, threshold in enumerate(as_trainers_compute(c, schedule)):
        d = prediction[i] - target[i]
        factor = 2 if smooth_l1 else 2 * threshold
        expected.append((factor * (torch.sqrt(d**2 + threshold**2) - threshold)).mean().item())
    loss = Huber(c, schedule, smooth_l1).at(process().levels(T), num_timesteps=1000)
    assert loss(prediction, target).tolist() == pytest.approx(expected, rel=1e-12)
    weight = torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64)
    weighted = weighted_losses(prediction, target, weight, errors=loss)
    assert weighted.tolist() == pytest.approx([w * e for w, e in zip(weight.tolist(), expected, strict=True)])


@pytest.mark.parametrize(("c", "size"), [(1e-6, 0.0), (0.1, 1e-6), (1e6, 1.0), (1e-6, 1e4)])
def test_in_single_precision_it_keeps_its_digits_and_gradients(c: float, size: float) -> None:
    """2c(√(d² + c²) - c) as it stands would round a small error away."""
    d = torch.full((4, 1, 1, 1), size, requires_grad=True)
    loss = Huber(c, "constant").at(process().levels(T), num_timesteps=1000)(d, torch.zeros_like(d))
    expected = 2 * size**2 / (math.sqrt((size / c) ** 2 + 1) + 1)
    assert loss.tolist() == pytest.approx([expected] * 4, rel=1e-5)
    loss.sum().backward()
    assert d.grad.flatten().tolist() == pytest.approx([2 * size / math.sqrt((size / c) ** 2 + 1)] * 4, rel=1e-5)


def test_a_large_c_is_the_squared_error_and_a_small_one_the_absolute_one() -> None:
    prediction, target = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    levels = process().levels(T)
    squared = Huber(1e5, "constant").at(levels, num_timesteps=1000)(prediction, target)
    torch.testing.assert_close(squared, squared_error(prediction, target), rtol=1e-8, atol=0)
    absolute = Huber(1e-6, "constant", smooth_l1=True).at(levels, num_timesteps=1000)(prediction, target)
    expected = 2 * (prediction - target).abs().flatten(1).mean(dim=1)
    torch.testing.assert_close(absolute, expected, rtol=1e-4, atol=0)


def test_its_threshold_falls_from_1_to_c_between_timesteps_too() -> None:
    levels = process("edm:continuous=true").levels(torch.linspace(-0.5, 999.4, 50, dtype=torch.float64))
    for schedule in ("exponential", "snr"):
        threshold = Huber(0.01, schedule).threshold(levels, num_timesteps=1000)
        assert bool((threshold.diff() < 0).all())
        assert threshold[[0, -1]].tolist() == pytest.approx([1, 0.01], abs=5e-3)


def objective(prediction: str, huber: Huber | None, *, weighting: str = "debiased", timesteps: str = "uniform"):
    weights = registry.create("weightings", weighting)
    return Objective(
        Parameterization(prediction, process("linear")),
        weights,
        registry.create("timesteps", timesteps),
        normalize="none",
        learned=weights.learned(),
        huber=huber,
    )


def test_weightings_of_huber_losses_are_not_those_of_another_prediction() -> None:
    """The same error of the image has one squared loss whatever is predicted, and Huber losses that differ."""
    levels = process("linear").levels(torch.tensor([50, 300, 700]))
    error = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors = {"x0": 1.0, "eps": (levels.alpha / levels.sigma), "v": 1 / levels.sigma}  # |F - target| / |x0_hat - x0|

    def losses(prediction: str, huber: Huber | None) -> Tensor:
        one = objective(prediction, huber)
        of_f = error * torch.as_tensor(factors[prediction]).reshape(-1, 1, 1, 1)
        weight = one.tables().weight[levels.t]
        return weighted_losses(of_f, torch.zeros_like(of_f), weight, errors=one.errors(levels))

    for prediction in ("eps", "v"):
        torch.testing.assert_close(losses(prediction, None), losses("x0", None), rtol=1e-10, atol=0)
        ratio = losses(prediction, Huber(0.1, "snr")) / losses("x0", Huber(0.1, "snr"))
        assert float((ratio - 1).abs().max()) > 0.5


def test_a_learned_variance_of_a_huber_loss_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'uncertainty' .*learns the variance of a squared error.*`loss.metric=mse`"):
        objective("eps", Huber(0.1, "snr"), weighting="uncertainty")


def test_importance_sampling_keeps_the_expected_huber_loss() -> None:
    """It multiplies the loss of a timestep, whatever that is, by base/q."""
    plain, drawn = (objective("eps", Huber(0.1, "snr"), timesteps=name).tables() for name in ("uniform", "importance"))
    losses = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (plain.probability * plain.weight * losses).sum()
    torch.testing.assert_close((drawn.probability * drawn.correction * drawn.weight * losses).sum(), expected)
