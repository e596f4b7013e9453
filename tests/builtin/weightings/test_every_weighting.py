import json

import pytest
import torch
from weighting_cases import NAMES, PREDICTIONS, REFS, SCHEDULES, make, process, settled

from debiasctl import registry
from debiasctl.api import Weighting
from debiasctl.diffusion.weighting import weight_in
from debiasctl.registry.refs import PluginRef, parse_ref

SIGMA_DATA = 0.7


def test_there_is_something_to_test() -> None:
    assert {"constant", "debiased", "edm", "interpolate", "sigmoid", "uncertainty"} <= set(NAMES)
    assert not {"product", "table"} & set(NAMES)
    assert {"linear", "cosine", "sigmoid"} <= set(SCHEDULES)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ref", REFS)
def test_every_weight_is_finite_and_not_negative(ref: str, schedule: str) -> None:
    snr, weighting = process(schedule).snr, settled(ref, schedule)
    for prediction in PREDICTIONS:
        weight = weight_in(weighting, prediction, snr=snr, sigma_data=SIGMA_DATA)
        assert (weight.dtype, weight.shape) == (torch.float64, snr.shape)
        assert bool(torch.isfinite(weight).all())
        assert bool((weight >= 0).all())
        assert bool((weight > 0).any())


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ref", REFS)
def test_the_losses_are_one_number(ref: str, schedule: str) -> None:
    """One error of x0, seen as the error of eps, v, flow and EDM's F, has one loss at each t."""
    table, weighting = process(schedule), settled(ref, schedule)
    seen = table.snr > 0  # at SNR 0, x_t tells nothing of x0, and no error of eps follows from x0's
    alpha, sigma = table.alpha[seen], table.sigma[seen]
    error = torch.randn(len(alpha), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = {
        "x0": error,
        "eps": -alpha / sigma * error,  # eps = (x_t - alpha x0)/sigma
        "v": -error / sigma,  # v = alpha eps - sigma x0
        "edm": error * (sigma**2 + (alpha * SIGMA_DATA) ** 2).sqrt() / (sigma * SIGMA_DATA),  # (x0 - c_skip x_t)/c_out
        "flow": -error * (alpha + sigma) / sigma,  # x0 = x_s - s u
    }
    weights = {
        prediction: weight_in(weighting, prediction, snr=table.snr, sigma_data=SIGMA_DATA)[seen]
        for prediction in PREDICTIONS
    }
    for prediction in PREDICTIONS:
        torch.testing.assert_close(
            weights[prediction] * errors[prediction] ** 2, weights["x0"] * error**2, rtol=1e-12, atol=0
        )


@pytest.mark.parametrize("ref", REFS)
def test_one_scheme_gives_one_gradient_whatever_is_predicted(ref: str) -> None:
    """The gradient at a network's weights, of the losses on its image estimate seen as eps, x0, v, flow and EDM's F."""
    table, weighting = process("linear"), settled(ref)
    t = torch.tensor([0, 20, 150, 400, 800, 999])
    alpha, sigma, snr = table.alpha[t, None], table.sigma[t, None], table.snr[t]
    x0, eps = torch.randn(2, len(t), 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x_t = alpha * x0 + sigma * eps
    variance = sigma**2 + (alpha * SIGMA_DATA) ** 2
    coefficients = {  # x0 = c_skip x_t + c_out F
        "eps": (1 / alpha, -sigma / alpha),
        "x0": (0, 1),
        "v": (alpha, -sigma),
        "edm": (alpha * SIGMA_DATA**2 / variance, sigma * SIGMA_DATA / variance.sqrt()),
        "flow": (1 / (alpha + sigma), -sigma / (alpha + sigma)),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 16)).double()
    gradients = []
    for prediction in PREDICTIONS:
        c_skip, c_out = coefficients[prediction]
        network.zero_grad()
        output, target = (network(x_t) - c_skip * x_t) / c_out, (x0 - c_skip * x_t) / c_out
        weight = weight_in(weighting, prediction, snr=snr, sigma_data=SIGMA_DATA)
        (weight * (output - target).square().mean(dim=1)).mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    largest = gradients[0].abs().max().item()
    assert largest > 1e-6
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-6, atol=1e-9 * largest)


@pytest.mark.parametrize("ref", REFS)
def test_a_scheme_keeps_shape_and_dtype_and_changes_nothing(ref: str) -> None:
    snr = torch.logspace(-3, 3, 12, dtype=torch.float64).reshape(3, 4)
    before, weighting = snr.clone(), settled(ref)
    weight = weighting(snr)
    assert (weight.shape, weight.dtype) == (snr.shape, torch.float64)
    assert torch.equal(snr, before)
    assert torch.equal(weight[1, 2:], weighting(snr[1, 2:]))


@pytest.mark.parametrize("ref", REFS)
def test_the_protocols_are_met(ref: str) -> None:
    for weighting in (make(ref), settled(ref)):
        assert isinstance(weighting, Weighting)
        assert weighting.is_learned == ref.startswith("uncertainty")
        assert (weighting.learned() is not None) == weighting.is_learned
        assert isinstance(weighting.varies, bool)


@pytest.mark.parametrize("ref", [ref for ref in REFS if ref != "third-party"])
def test_a_stored_weighting_is_the_same_again(ref: str) -> None:
    """As a spec stores it, and as the reference that messages and tables print."""
    resolved = registry.resolve("weightings", ref)
    stored = json.loads(json.dumps(resolved.options.model_dump(mode="json")))
    name = parse_ref(ref).name
    text = str(PluginRef(name, stored))
    for again in ({"name": name, "options": stored}, text, str(parse_ref(text))):
        assert registry.resolve("weightings", again).options == resolved.options
    snr = process("linear").snr
    assert torch.equal(settled(text)(snr), settled(ref)(snr))
