from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from debiasctl import registry
from debiasctl.api import Space
from debiasctl.diffusion.loss import squared_error, weighted_losses
from debiasctl.diffusion.parameterization import PREDICTIONS, convert
from debiasctl.diffusion.process import DiffusionProcess, at, process_of
from debiasctl.diffusion.weighting import bounded_snr, convert_weight, effective_weight, weight_in
from debiasctl.errors import DebiasctlError

SCHEMES = ("constant", "debiased", "p2", "min-snr")
SCHEDULES = (
    "linear", "scaled-linear", "cosine", "sigmoid", "linear:zero_terminal_snr=true", "cosine:zero_terminal_snr=true",
)  # fmt: skip


def make(ref: str) -> DiffusionProcess:
    resolved = registry.resolve("schedules", ref)
    return process_of(resolved.create(), resolved.options)


def uniform(snr: torch.Tensor) -> torch.Tensor:
    return torch.full_like(snr, 1 / len(snr))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("space", PREDICTIONS)
def test_every_weight_is_finite_and_of_mean_one(scheme: str, space: Space, schedule: str) -> None:
    process, weighting = make(schedule), registry.create("weightings", scheme)
    generator = torch.Generator().manual_seed(0)
    skewed = torch.rand(process.num_timesteps, generator=generator, dtype=torch.float64)
    for base in (uniform(process.snr), skewed / skewed.sum()):
        raw = effective_weight(weighting, space, snr=process.snr, base=base, normalize="none")
        normal = effective_weight(weighting, space, snr=process.snr, base=base, normalize="mean")
        for weight in (raw, normal):
            assert weight.dtype == torch.float64
            assert weight.shape == process.snr.shape
            assert bool(torch.isfinite(weight).all())
            assert bool((weight >= 0).all())
        assert (base * normal).sum().item() == pytest.approx(1, rel=1e-12)
        torch.testing.assert_close(normal * (base * raw).sum(), raw, rtol=1e-12, atol=0)
        assert torch.equal(raw, weight_in(weighting, space, snr=process.snr))


TABLE: dict[str, dict[Space, Callable[[torch.Tensor], torch.Tensor]]] = {
    "constant": {"eps": torch.ones_like, "x0": lambda snr: snr, "v": lambda snr: snr / (snr + 1)},
    "debiased": {
        "eps": lambda snr: snr**-0.5, "x0": lambda snr: snr**0.5, "v": lambda snr: snr**0.5 / (snr + 1),
    },
    "p2": {
        "eps": lambda snr: 1 / (1 + snr), "x0": lambda snr: snr / (1 + snr), "v": lambda snr: snr / (1 + snr) ** 2,
    },
    "p2:k=2,gamma=0.5": {"eps": lambda snr: (2 + snr) ** -0.5},
    "p2:gamma=0": {"eps": torch.ones_like},
    "min-snr": {
        "eps": lambda snr: snr.clamp(max=5) / snr,
        "x0": lambda snr: snr.clamp(max=5),
        "v": lambda snr: snr.clamp(max=5) / (snr + 1),
    },
    "min-snr:gamma=1": {"v": lambda snr: snr.clamp(max=1) / (snr + 1)},
}  # fmt: skip


@pytest.mark.parametrize(("scheme", "space"), [(scheme, space) for scheme in TABLE for space in TABLE[scheme]])
def test_every_scheme_is_its_published_formula(scheme: str, space: Space) -> None:
    snr = torch.logspace(-6, 6, 241, dtype=torch.float64)
    weight = weight_in(registry.create("weightings", scheme), space, snr=snr)
    torch.testing.assert_close(weight, TABLE[scheme][space](snr), rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_three_losses_are_one_number(scheme: str, schedule: str) -> None:
    process, weighting = make(schedule), registry.create("weightings", scheme)
    t = torch.arange(0, process.num_timesteps - 1, 37)  # at zero SNR the error of eps is none of x0's
    x0, eps, estimate = torch.randn(3, len(t), 2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x_t = process.add_noise(x0, eps, t)
    alpha, sigma = at(process.alpha, t, like=x0), at(process.sigma, t, like=x0)
    truth = convert(x0, "x0", x_t=x_t, alpha=alpha, sigma=sigma)
    guess = convert(estimate, "x0", x_t=x_t, alpha=alpha, sigma=sigma)
    losses = [
        weight_in(weighting, space, snr=process.snr)[t] * squared_error(getattr(guess, space), getattr(truth, space))
        for space in PREDICTIONS
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-9, atol=0)
    torch.testing.assert_close(losses[0], losses[2], rtol=1e-9, atol=0)
    # and the one loss of all: weight_x0 c_out² ||F - target||²
    for prediction in PREDICTIONS:
        if prediction != "eps" or process.snr[-1] > 0:
            snr = process.snr[t]
            factor = {"eps": 1 / snr, "x0": torch.ones_like(snr), "v": 1 / (snr + 1)}[prediction]  # c_out²
            expected = weight_in(weighting, "x0", snr=process.snr)[t] * factor
            torch.testing.assert_close(
                weight_in(weighting, prediction, snr=process.snr)[t], expected, rtol=1e-9, atol=0
            )


@pytest.mark.parametrize("source", PREDICTIONS)
@pytest.mark.parametrize("through", PREDICTIONS)
def test_conversions_go_round(source: Space, through: Space) -> None:
    snr = torch.logspace(-8, 8, 33, dtype=torch.float64)
    weight = torch.linspace(0, 3, 33, dtype=torch.float64)
    there = convert_weight(weight, source=source, target=through, snr=snr)
    torch.testing.assert_close(
        convert_weight(there, source=through, target=source, snr=snr), weight, rtol=1e-12, atol=0
    )
    direct = convert_weight(weight, source=source, target="x0", snr=snr)
    torch.testing.assert_close(convert_weight(there, source=through, target="x0", snr=snr), direct, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_scheme_gives_one_gradient_whatever_is_predicted(scheme: str) -> None:
    """The gradient at a network's weights, of the losses on its image estimate seen as eps, x0 and v."""
    process, weighting = make("linear"), registry.create("weightings", scheme)
    t = torch.tensor([0, 20, 150, 400, 800, 999])
    generator = torch.Generator().manual_seed(2)
    x0, eps = torch.randn(2, len(t), 1, 4, 4, generator=generator, dtype=torch.float64)
    x_t = process.add_noise(x0, eps, t)
    alpha, sigma = at(process.alpha, t, like=x0), at(process.sigma, t, like=x0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 16)
        ).double()
    gradients = []
    for space in PREDICTIONS:
        network.zero_grad()
        image = network(x_t).reshape(x0.shape)
        guess = convert(image, "x0", x_t=x_t, alpha=alpha, sigma=sigma)
        truth = convert(x0, "x0", x_t=x_t, alpha=alpha, sigma=sigma)
        weight = weight_in(weighting, space, snr=process.snr)[t]
        weighted_losses(getattr(guess, space), getattr(truth, space), weight).mean().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in network.parameters()]))
    assert gradients[0].abs().max() > 1e-6
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-6, atol=1e-9 * gradients[0].abs().max().item())


def test_a_loss_is_the_weighted_squared_error() -> None:
    prediction, goal = torch.tensor([[1.0, 2.0], [0.0, 0.0]]).reshape(2, 1, 1, 2), torch.zeros(2, 1, 1, 2)
    goal[1] = 3
    assert squared_error(prediction, goal).tolist() == [2.5, 9.0]
    assert weighted_losses(prediction, goal, torch.tensor([2.0, 0.5])).tolist() == [5.0, 4.5]


def test_schemes_see_a_bounded_snr_in_float64() -> None:
    seen: list[torch.Tensor] = []

    def scheme(snr: torch.Tensor) -> torch.Tensor:
        seen.append(snr)
        return torch.ones_like(snr)

    scheme.space = "v"
    weight_in(scheme, "v", snr=torch.tensor([0.0, 1.0, torch.inf]))
    assert seen[0].dtype == torch.float64
    assert bool(torch.isfinite(seen[0]).all())
    assert 0 < seen[0][0] < 1e-15
    assert seen[0][1] == 1
    assert seen[0][2] > 1e15
    inside = torch.logspace(-15, 15, 7, dtype=torch.float64)
    assert torch.equal(bounded_snr(inside), inside)


class ThirdParty:
    def __init__(self, function: Callable[[torch.Tensor], object], space: str = "eps") -> None:
        self.function, self.space = function, space

    def __call__(self, snr: torch.Tensor) -> object:
        return self.function(snr)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda snr: torch.full_like(snr, torch.nan), "gives nan at SNR"),
        (lambda snr: torch.where(snr < 1e-2, torch.nan, 1.0), "gives nan at SNR 0.009"),
        (lambda snr: torch.full_like(snr, torch.inf), "gives inf at SNR"),
        (lambda snr: 1 - snr, "must be finite and not negative"),
        (lambda snr: snr[:-1], r"of shape \(999,\) for SNRs of shape \(1000,\)"),
        (lambda snr: snr[:, None], r"of shape \(1000, 1\)"),
        (lambda snr: torch.tensor(1.0), r"of shape \(\)"),
        (torch.zeros_like, "is zero at every timestep"),
    ],
)
def test_a_third_partys_weights_are_judged(function: Callable[[torch.Tensor], object], message: str) -> None:
    snr = make("linear").snr
    for normalize in ("mean", "none"):
        with pytest.raises(DebiasctlError, match=message) as caught:
            effective_weight(ThirdParty(function), "eps", snr=snr, base=uniform(snr), normalize=normalize)
        assert "weighting ThirdParty" in str(caught.value)


@pytest.mark.parametrize("space", ["epsilon", "eps "])
def test_a_third_partys_space_is_judged(space: str) -> None:
    snr = make("linear").snr
    with pytest.raises(DebiasctlError, match=r"is written for the space 'eps.*'\. Allowed: eps, x0, v"):
        weight_in(ThirdParty(torch.ones_like, space), "eps", snr=snr)


def test_the_weighting_protocol_is_met_by_every_built_in() -> None:
    from debiasctl.api import Weighting

    for scheme in SCHEMES:
        assert isinstance(registry.create("weightings", scheme), Weighting)
    assert not isinstance(SimpleNamespace(), Weighting)
