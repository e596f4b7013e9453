import pytest
import torch

from debiasctl import registry
from debiasctl.api import Space
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.parameterization import PREDICTIONS, Parameterization, check_prediction, convert, target
from debiasctl.diffusion.process import DiffusionProcess, at, process_of
from debiasctl.errors import UsageError

SCHEDULES = ("linear", "scaled-linear", "cosine", "sigmoid")


def make(name: str, zero: bool) -> DiffusionProcess:
    resolved = registry.resolve("schedules", {"name": name, "options": {"zero_terminal_snr": zero}})
    return process_of(resolved.create(), resolved.options)


CASES = [
    (name, zero, prediction)
    for name in SCHEDULES
    for zero in (False, True)
    for prediction in PREDICTIONS
    if not (zero and prediction == "eps")
]


@pytest.fixture(params=CASES, ids=str)
def parameterization(request: pytest.FixtureRequest) -> Parameterization:
    name, zero, prediction = request.param
    return Parameterization(prediction, make(name, zero))


def sample(process: DiffusionProcess) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """One image and noise at every t, float64."""
    generator = torch.Generator().manual_seed(0)
    t = torch.arange(process.num_timesteps)
    x0, eps = torch.randn(2, len(t), 1, 2, 2, generator=generator, dtype=torch.float64)
    return x0, eps, process.add_noise(x0, eps, t), t


def test_the_true_target_gives_the_true_image(parameterization: Parameterization) -> None:
    process = parameterization.process
    x0, eps, x_t, t = sample(process)
    truth = {"x0": x0, "eps": eps, "v": at(process.alpha, t, like=x0) * eps - at(process.sigma, t, like=x0) * x0}
    goal = parameterization.target(x0, eps, t)
    assert torch.equal(goal, target(parameterization.prediction, x0=x0, eps=eps, alpha=at(process.alpha, t, like=x0),
                                    sigma=at(process.sigma, t, like=x0)))  # fmt: skip
    torch.testing.assert_close(goal, truth[parameterization.prediction], rtol=1e-12, atol=1e-14)
    estimate = parameterization.estimate(goal, x_t, t)
    # x0 from eps divides by alpha, eps from x0 by sigma: their rounding errors grow with the inverse
    slack = (1 + 1 / process.alpha.clamp(min=1e-6) + 1 / process.sigma).reshape(-1, 1, 1, 1)
    for name, value in truth.items():
        assert bool(((getattr(estimate, name) - value).abs() <= 1e-12 * slack * (1 + value.abs())).all()), name


def test_a_prediction_survives_the_way_through_every_other(parameterization: Parameterization) -> None:
    """F -> estimate -> any form of it -> estimate again: whatever F is, not only where it is the truth."""
    process, prediction = parameterization.process, parameterization.prediction
    x0, _, x_t, t = sample(process)
    output = x0.flip(0)
    alpha, sigma = at(process.alpha, t, like=x0), at(process.sigma, t, like=x0)
    first = parameterization.estimate(output, x_t, t)
    assert torch.equal(getattr(first, prediction), output)
    # x_t = alpha x0 + sigma eps holds for every estimate
    torch.testing.assert_close(alpha * first.x0 + sigma * first.eps, x_t, rtol=1e-12, atol=1e-12)
    through: Space
    for through in PREDICTIONS:
        if through == "eps" and process.snr[-1] == 0:
            continue
        # only what goes by eps is ever divided by alpha
        slack = 1 / sigma + (1 / alpha if "eps" in (prediction, through) else 0)
        again = convert(getattr(first, through), through, x_t=x_t, alpha=alpha, sigma=sigma)
        for name in PREDICTIONS:
            ours, theirs = getattr(first, name), getattr(again, name)
            scale = torch.maximum(first.x0.abs(), first.eps.abs()) + x_t.abs() + 1
            assert bool(((ours - theirs).abs() <= 1e-12 * slack * scale).all()), (through, name)


def test_c_skip_and_c_out_are_the_same_conversion(parameterization: Parameterization) -> None:
    x0, _, x_t, t = sample(parameterization.process)
    output = x0.flip(0)
    expected = parameterization.estimate(output, x_t, t).x0
    alpha, sigma = parameterization.process.alpha, parameterization.process.sigma
    c_skip, c_out = {
        "eps": (1 / alpha, -sigma / alpha),
        "x0": (torch.zeros_like(alpha), torch.ones_like(alpha)),
        "v": (alpha, -sigma),
    }[parameterization.prediction]
    got = at(c_skip, t, like=x_t) * x_t + at(c_out, t, like=x_t) * output
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)
    # so the error of F is the error of x0 in another unit: F_mse = x0_mse / c_out²
    other = output + 0.1
    x0_mse = (parameterization.estimate(other, x_t, t).x0 - expected).square().mean((1, 2, 3))
    torch.testing.assert_close(x0_mse / c_out**2, torch.full_like(x0_mse, 0.01), rtol=1e-8, atol=0)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_processes_that_keep_no_variance(prediction: Space) -> None:
    """alpha = 1, sigma anything: n² = alpha² + sigma² is not 1 there, and v is divided by n."""
    x0, eps = torch.randn(2, 5, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha, sigma = torch.ones(5, 1, 1, 1, dtype=torch.float64), torch.logspace(-2, 1, 5).double().reshape(5, 1, 1, 1)
    x_t = alpha * x0 + sigma * eps
    truth = {"x0": x0, "eps": eps, "v": (alpha * eps - sigma * x0) / (1 + sigma**2).sqrt()}
    torch.testing.assert_close(target(prediction, x0=x0, eps=eps, alpha=alpha, sigma=sigma), truth[prediction])
    estimate = convert(truth[prediction], prediction, x_t=x_t, alpha=alpha, sigma=sigma)
    for name, value in truth.items():
        torch.testing.assert_close(getattr(estimate, name), value, rtol=1e-10, atol=1e-11)


def test_v_is_minus_the_image_where_all_is_noise() -> None:
    process = make("cosine", True)
    x0, eps, _, t = sample(process)
    last = Parameterization("v", process).target(x0, eps, t)[-1]
    assert torch.equal(last, -x0[-1])


@pytest.mark.parametrize("name", SCHEDULES)
def test_eps_is_refused_where_the_last_snr_is_zero(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        Parameterization("eps", make(name, True))
    assert "zero terminal SNR" in str(caught.value)
    assert "--prediction v or x0" in str(caught.value)
    check_prediction("eps", make(name, False))


def test_an_unknown_prediction() -> None:
    with pytest.raises(UsageError, match=r"unknown prediction 'epsilon'\. Known: eps, x0, v"):
        check_prediction("epsilon", make("linear", False))


class Recorder(torch.nn.Module):
    def forward(self, x, noise_level, labels=None):
        self.seen = (x, noise_level, labels)
        return x * 2


def test_a_denoiser_asks_the_network_once_and_converts() -> None:
    process = make("linear", False)
    network, x_t = Recorder(), torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(2))
    denoiser = NetworkDenoiser(network, Parameterization("v", process))
    assert (denoiser.num_timesteps, denoiser.nfe) == (1000, 0)
    assert torch.equal(denoiser.alphas_cumprod, process.alphas_cumprod)
    labels = torch.tensor([0, 1, 2])
    estimate = denoiser(x_t, 700, labels)
    assert denoiser.nfe == 1
    x, noise_level, seen_labels = network.seen
    assert torch.equal(x, x_t)
    assert noise_level.tolist() == [700.0] * 3
    assert noise_level.dtype == x_t.dtype
    assert seen_labels is labels
    expected = convert(x_t * 2, "v", x_t=x_t, alpha=process.alpha[700].float(), sigma=process.sigma[700].float())
    torch.testing.assert_close(estimate.x0, expected.x0)
    torch.testing.assert_close(estimate.eps, expected.eps)
    denoiser(x_t, 0)
    assert network.seen[2] is None
    assert denoiser.nfe == 2
