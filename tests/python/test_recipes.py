"""The recipes for public trainers, run as they stand, and loops of 20 steps: each image has its weight of the table."""

from typing import Any

import diffusers
import pytest
import torch
from diffusers.training_utils import compute_snr
from documents import ROOT, read
from torch import Tensor

import debiasctl

BLOCKS = [block.code for block in read(ROOT / "docs" / "how-to" / "your-own-loop.md").blocks]


def cumulative(beta_start: float, beta_end: float, *, scaled: bool = False) -> Tensor:
    """alphas_cumprod of T = 1000, by its definition."""
    power = 0.5 if scaled else 1
    betas = torch.linspace(beta_start**power, beta_end**power, 1000, dtype=torch.float64) ** (1 / power)
    return (1 - betas).cumprod(0)


def snr_of(alphas_cumprod: Tensor) -> Tensor:
    return alphas_cumprod / (1 - alphas_cumprod)


LINEAR, SCALED = snr_of(cumulative(1e-4, 0.02)), snr_of(cumulative(0.00085, 0.012, scaled=True))
DEBIASED = LINEAR.rsqrt() / LINEAR.rsqrt().mean()  # on eps, of mean 1
MIN_SNR_ON_V = SCALED.clamp(max=5) / (SCALED + 1)


def run_until(marker: str) -> dict[str, Any]:
    """The page's code up to and including the block with `marker`, as one program."""
    (place,) = (number for number, code in enumerate(BLOCKS) if marker in code)
    names: dict[str, Any] = {"__name__": "recipes"}
    for code in BLOCKS[: place + 1]:
        exec(code, names)
    return names


def weighted(names: dict[str, Any], output: str, weights: Tensor) -> float:
    """The mean over the batch of weights [N] times the images' squared errors."""
    errors = (names[output] - names["target"]).detach().double().square().mean(dim=(1, 2, 3))
    return float((weights * errors).mean())


@pytest.mark.parametrize(
    ("marker", "output", "weights"),
    [
        ('beta_schedule="linear"', "model_output", lambda names: DEBIASED[names["timesteps"]]),
        ("mse_loss_weights", "model_pred", lambda names: MIN_SNR_ON_V[names["timesteps"]]),
        ("compute_density_for_timestep_sampling", "model_pred", lambda names: on_flow(names["timesteps"])),
        ('terms = {"mse"', "model_output", lambda names: DEBIASED[names["t"]]),
        ("def post_process_loss", "noise_pred", lambda names: MIN_SNR_ON_V[names["timesteps"]]),
    ],
)
def test_a_recipes_loss_is_that_of_the_table(marker: str, output: str, weights: Any) -> None:
    names = run_until(marker)
    assert names["loss"].item() == pytest.approx(weighted(names, output, weights(names)), rel=1e-4)


def on_flow(timesteps: Tensor) -> Tensor:
    """debiased on u = eps - x0, of mean 1 over SD3's shifted table."""
    u = torch.arange(1, 1001, dtype=torch.float64) / 1000
    table = 3 * u / (1 + 2 * u)
    s = timesteps.double() / 1000
    return s * (1 - s) / (table * (1 - table)).mean()


def test_the_recipes_without_a_network_have_the_weights_of_their_formulas() -> None:
    for marker in ('weighting("p2")', 'prediction="flow")'):
        names = run_until(marker)
        torch.manual_seed(0)
        index = names["data"]["timestep"]
        if marker == 'weighting("p2")':
            expected = (SCALED / (SCALED + 1) ** 2)[index]
            found = names["weigh"](index)
        else:
            s = (index.double() + 1) / 1000
            expected = torch.minimum((1 - s) ** 2, 5 * s**2)
            found = names["weight"](s=(index + 1) / 1000, prediction="flow")
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-7)
        assert bool((names["losses"] <= found).all())  # the errors are at most 1
    names = run_until("weight(sigma=sigma")
    assert names["loss"].item() == pytest.approx(float(names["errors"].mean()), rel=1e-6)
    sigma = names["sigma"].double()
    edm = (sigma**2 + 0.25) / (sigma * 0.5) ** 2  # as EDM's code writes it, on the denoised image
    torch.testing.assert_close(names["weight"](sigma=sigma, prediction="x0"), edm, rtol=1e-9, atol=0)


# ---------------------------------------------------------------- loops


@pytest.mark.parametrize("reference", ["debiased", "min-snr"])
@pytest.mark.parametrize("kind", ["eps", "v", "v-zero", "flow", "flow-shifted"])
def test_twenty_steps_train_with_the_weights_of_the_table(kind: str, reference: str) -> None:
    """The losses and the network are those of the same loop with the formula written out."""
    if kind.startswith("flow"):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0 if kind == "flow-shifted" else 1.0)
    else:
        unit = "epsilon" if kind == "eps" else "v_prediction"
        scheduler = diffusers.DDPMScheduler(prediction_type=unit, rescale_betas_zero_snr=kind == "v-zero")
    weigh = debiasctl.weighting(reference).for_scheduler(scheduler)
    found = train(scheduler, weigh)
    expected = train(scheduler, lambda timesteps: formula(kind, reference, scheduler, timesteps))
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-6)
    other = train(scheduler, lambda timesteps: torch.ones(len(timesteps)))
    assert found[0] != pytest.approx(other[0], rel=1e-2)


def formula(kind: str, reference: str, scheduler: Any, timesteps: Tensor) -> Tensor:
    """The weight as its paper writes it."""
    if kind.startswith("flow"):
        s = timesteps / 1000
        return s * (1 - s) if reference == "debiased" else torch.minimum((1 - s) ** 2, 5 * s**2)
    snr = compute_snr(scheduler, timesteps)
    if reference == "debiased":
        return snr.rsqrt() if kind == "eps" else snr.sqrt() / (snr + 1)
    return snr.clamp(max=5) / (snr if kind == "eps" else snr + 1)


def train(scheduler: Any, weigh: Any) -> tuple[list[float], Tensor]:
    """The losses and the trained weights of a tiny network after 20 steps of a diffusers training loop."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = torch.nn.Linear(6, 6)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        images, noise = (torch.randn(16, 6, generator=generator) for _ in range(2))
        index = torch.randint(0, 1000, (16,), generator=generator)
        if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
            timesteps = scheduler.timesteps[index]
            noisy, target = scheduler.scale_noise(images, timesteps, noise), noise - images
        else:
            timesteps = index
            noisy = scheduler.add_noise(images, noise, timesteps)
            is_eps = scheduler.config.prediction_type == "epsilon"
            target = noise if is_eps else scheduler.get_velocity(images, noise, timesteps)
        loss = (weigh(timesteps) * (network(noisy) - target).square().mean(dim=1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, network.weight.detach()
