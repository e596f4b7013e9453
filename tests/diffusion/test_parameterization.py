import pytest
import torch

from debiasctl import registry
from debiasctl.api import Prediction, Space
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.parameterization import (
    PREDICTIONS,
    SPACES,
    Output,
    Parameterization,
    check_prediction,
    convert,
    target,
)
from debiasctl.diffusion.process import DiffusionProcess, NoiseLevels, process_of
from debiasctl.errors import UsageError

VARIANCE_PRESERVING = ("linear", "scaled-linear", "cosine", "sigmoid")
SIGMA_DATA = 0.4


def make(name: str, zero: bool = False, **options: object) -> DiffusionProcess:
    given = {"zero_terminal_snr": True} if zero else {}
    return process_of(registry.create("schedules", {"name": name, "options": given | options}))


CASES = [
    *((name, False, prediction) for name in (*VARIANCE_PRESERVING, "edm") for prediction in PREDICTIONS),
    *((name, True, prediction) for name in VARIANCE_PRESERVING for prediction in ("x0", "v", "flow")),
]


@pytest.fixture(params=CASES, ids=str)
def parameterization(request: pytest.FixtureRequest) -> Parameterization:
    name, zero, prediction = request.param
    return Parameterization(prediction, make(name, zero), sigma_data=SIGMA_DATA)


def column(table: torch.Tensor) -> torch.Tensor:
    return table.reshape(-1, 1, 1, 1)


def sample(process: DiffusionProcess) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, NoiseLevels]:
    """One image and noise at every t, float64."""
    generator = torch.Generator().manual_seed(0)
    levels = process.levels(torch.arange(process.num_timesteps))
    x0, eps = torch.randn(2, process.num_timesteps, 1, 2, 2, generator=generator, dtype=torch.float64)
    return x0, eps, process.add_noise(x0, eps, levels), levels


def edm_coefficients(levels: NoiseLevels, sigma_data: float) -> dict[str, torch.Tensor]:
    """EDM's preconditioning, [N, 1, 1, 1], for images with noise sigma/alpha on them (arXiv 2206.00364, Table 1)."""
    sigma = column(levels.sigma / levels.alpha)
    total = sigma**2 + sigma_data**2
    return {
        "skip": sigma_data**2 / total,
        "out": sigma * sigma_data / total.sqrt(),
        "in": 1 / total.sqrt(),
        "noise": sigma.log() / 4,
    }


def test_the_true_target_gives_the_true_image(parameterization: Parameterization) -> None:
    process, prediction = parameterization.process, parameterization.prediction
    x0, eps, x_t, levels = sample(process)
    alpha, sigma = column(process.alpha), column(process.sigma)
    truth = {"x0": x0, "eps": eps, "v": alpha * eps - sigma * x0, "flow": eps - x0}
    goal = parameterization.target(x0, eps, levels)
    if prediction != "edm":
        assert torch.equal(goal, target(prediction, x0=x0, eps=eps, alpha=alpha, sigma=sigma))
        torch.testing.assert_close(goal, truth[prediction], rtol=1e-12, atol=1e-14)
    estimate = parameterization.estimate(Output(goal), x_t, levels)
    # x0 from eps divides by alpha, eps from x0 by sigma: their rounding errors grow with the inverse
    slack = 1 + 1 / alpha.clamp(min=1e-6) + 1 / sigma
    for name, value in truth.items():
        assert bool(((getattr(estimate, name) - value).abs() <= 1e-12 * slack * (1 + value.abs())).all()), name


def test_a_prediction_survives_the_way_through_every_other(parameterization: Parameterization) -> None:
    """F -> estimate -> any form of it -> estimate again: whatever F is, not only where it is the truth."""
    process, prediction = parameterization.process, parameterization.prediction
    x0, _, x_t, levels = sample(process)
    output = x0.flip(0)
    alpha, sigma = column(process.alpha), column(process.sigma)
    first = parameterization.estimate(Output(output), x_t, levels)
    if prediction in SPACES:
        # eps - x0 is not among the estimates themselves
        torch.testing.assert_close(getattr(first, prediction), output, rtol=0, atol=1e-14 * (prediction == "flow"))
    # x_t = alpha x0 + sigma eps holds for every estimate
    torch.testing.assert_close(alpha * first.x0 + sigma * first.eps, x_t, rtol=1e-12, atol=1e-12)
    scale = torch.maximum(first.x0.abs(), first.eps.abs()) + x_t.abs() + 1
    through: Prediction
    for through in PREDICTIONS:
        if through in ("eps", "edm") and process.snr[-1] == 0:
            continue
        # only what goes by eps is ever divided by alpha
        slack = 1 / sigma + (1 / alpha if "eps" in (prediction, through) else 0)
        other = Parameterization(through, process, sigma_data=SIGMA_DATA)
        again = other.estimate(Output(other.target(first.x0, first.eps, levels)), x_t, levels)
        for name in SPACES:
            difference = (getattr(first, name) - getattr(again, name)).abs()
            assert bool((difference <= 1e-12 * slack * scale).all()), (through, name)


def test_c_skip_and_c_out_are_the_same_conversion(parameterization: Parameterization) -> None:
    x0, _, x_t, levels = sample(parameterization.process)
    output = x0.flip(0)
    expected = parameterization.estimate(Output(output), x_t, levels).x0
    alpha, sigma = column(levels.alpha), column(levels.sigma)
    total = sigma**2 + alpha**2 * SIGMA_DATA**2
    c_skip, c_out = {
        "eps": (1 / alpha, -sigma / alpha),
        "x0": (torch.zeros_like(alpha), torch.ones_like(alpha)),
        "v": (alpha, -sigma),
        "edm": (alpha * SIGMA_DATA**2 / total, sigma * SIGMA_DATA / total.sqrt()),
        "flow": (1 / (alpha + sigma), -sigma / (alpha + sigma)),
    }[parameterization.prediction]
    torch.testing.assert_close(c_skip * x_t + c_out * output, expected, rtol=1e-11, atol=1e-11)
    # so the error of F is the error of x0 in another unit: F_mse = x0_mse / c_out²
    other = parameterization.estimate(Output(output + 0.1), x_t, levels).x0
    x0_mse = (other - expected).square().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(x0_mse / c_out**2, torch.full_like(x0_mse, 0.01), rtol=1e-8, atol=0)


# ---------------------------------------------------------------- EDM's preconditioning


class Recorder(torch.nn.Module):
    """Gives its input twice as large, as many times over as asked, and keeps what it was given."""

    def __init__(self, copies: int = 1) -> None:
        super().__init__()
        self.copies = copies

    def forward(self, x, noise_level, labels=None):
        self.seen = (x, noise_level, labels)
        return torch.cat([2 * x, *(3 * x for _ in range(self.copies - 1))], dim=1)


@pytest.mark.parametrize("schedule", ["edm", "linear"])
@pytest.mark.parametrize("sigma_data", [0.5, 0.2])
def test_edm_is_edms_own_denoiser_of_unscaled_images(schedule: str, sigma_data: float) -> None:
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) for x = x_t/alpha and sigma = sigma_t/alpha."""
    process = make(schedule)
    parameterization, network = Parameterization("edm", process, sigma_data=sigma_data), Recorder()
    x0, eps, x_t, levels = sample(process)
    coefficients = edm_coefficients(levels, sigma_data)
    x = x0 + column(process.sigma / process.alpha) * eps
    torch.testing.assert_close(x_t / column(process.alpha), x, rtol=1e-12, atol=1e-12)

    output = parameterization.run(network, x_t, levels, None)
    seen_x, seen_noise, _ = network.seen
    torch.testing.assert_close(seen_x, coefficients["in"] * x, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(seen_noise, coefficients["noise"].flatten(), rtol=1e-12, atol=1e-14)
    denoised = coefficients["skip"] * x + coefficients["out"] * 2 * seen_x
    torch.testing.assert_close(parameterization.estimate(output, x_t, levels).x0, denoised, rtol=1e-11, atol=1e-12)

    # EDM, Eq. 8: the effective target; the subtraction there loses digits in proportion to x/sigma
    target_of_f = (x0 - coefficients["skip"] * x) / coefficients["out"]
    goal = parameterization.target(x0, eps, levels)
    slack = 1e-14 * (1 + x.abs() / coefficients["out"])
    assert bool(((goal - target_of_f).abs() <= slack).all())


def test_edms_inputs_and_targets_have_unit_variance_where_the_data_have_sigma_datas() -> None:
    process = make("linear")
    parameterization, network = Parameterization("edm", process, sigma_data=SIGMA_DATA), Recorder()
    levels = process.levels(torch.arange(process.num_timesteps))
    one = torch.ones(process.num_timesteps, 1, 1, 1, dtype=torch.float64)

    def response(x0: torch.Tensor, eps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parameterization.run(network, process.add_noise(x0, eps, levels), levels, None)
        return network.seen[0], parameterization.target(x0, eps, levels)

    of_x0, of_eps = response(one, 0 * one), response(0 * one, one)
    for to_x0, to_eps in zip(of_x0, of_eps, strict=True):  # both are linear in independent x0 and eps
        torch.testing.assert_close(to_x0**2 * SIGMA_DATA**2 + to_eps**2, one, rtol=1e-12, atol=0)


def test_edm_loses_no_digits_at_its_least_noise() -> None:
    """c_out is 0.002 there: (x0 - c_skip x)/c_out in float32 would be off by 1e-7/0.002."""
    process = make("edm")
    parameterization = Parameterization("edm", process)
    levels = process.levels(torch.zeros(4096, dtype=torch.int64))
    assert (levels.sigma / levels.alpha)[0].item() == pytest.approx(0.002)
    x0, eps = torch.randn(2, 4096, 1, 1, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    exact = parameterization.target(x0, eps, levels)
    goal = parameterization.target(x0.float(), eps.float(), levels)
    assert goal.dtype == torch.float32
    assert (goal - exact).abs().max() < 1e-6
    x_t = process.add_noise(x0, eps, levels).float()
    estimate = parameterization.estimate(Output(goal), x_t, levels)
    assert (estimate.x0 - x0).abs().max() < 1e-6
    assert (estimate.v - (column(levels.alpha) * eps - column(levels.sigma) * x0)).abs().max() < 1e-6


@pytest.mark.parametrize("schedule", ["linear", "edm"])
def test_v_is_edm_of_data_of_unit_variance_up_to_sign(schedule: str) -> None:
    process = make(schedule)
    v, edm = Parameterization("v", process), Parameterization("edm", process, sigma_data=1.0)
    x0, eps, x_t, levels = sample(process)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(edm.target(x0, eps, levels), -v.target(x0, eps, levels), **close)
    output, network = x0.flip(0), Recorder()
    edm.run(network, x_t, levels, None)
    torch.testing.assert_close(network.seen[0], x_t, **close)
    first, second = v.estimate(Output(output), x_t, levels), edm.estimate(Output(-output), x_t, levels)
    for name in SPACES:
        torch.testing.assert_close(getattr(second, name), getattr(first, name), **close)


# ---------------------------------------------------------------- rectified flow


@pytest.mark.parametrize(("schedule", "zero"), [("linear", False), ("cosine", True), ("edm", False)])
def test_flow_is_rectified_flows_own_velocity_of_its_own_images(schedule: str, zero: bool) -> None:
    """x_s = (1 - s) x0 + s eps and t = 1000 s are what the network gets, and x0_hat = x_s - s u (SD3's notation)."""
    process = make(schedule, zero)
    parameterization, network = Parameterization("flow", process), Recorder()
    x0, eps, x_t, levels = sample(process)
    s = column(1 / (1 + process.snr.sqrt()))
    x_s = (1 - s) * x0 + s * eps
    close = {"rtol": 1e-12, "atol": 1e-13}
    output = parameterization.run(network, x_t, levels, None)
    torch.testing.assert_close(network.seen[0], x_s, **close)
    torch.testing.assert_close(network.seen[1], 1000 * s.flatten(), **close)
    estimate = parameterization.estimate(output, x_t, levels)
    torch.testing.assert_close(estimate.x0, x_s - s * 2 * x_s, **close)
    torch.testing.assert_close(estimate.eps, x_s + (1 - s) * 2 * x_s, **close)
    torch.testing.assert_close(parameterization.target(x0, eps, levels), eps - x0, rtol=0, atol=0)


# ---------------------------------------------------------------- the rest


@pytest.mark.parametrize("prediction", SPACES)
def test_processes_that_keep_no_variance(prediction: Space) -> None:
    """alpha = 1, sigma anything: n² = alpha² + sigma² is not 1 there, and v is divided by n."""
    x0, eps = torch.randn(2, 5, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha, sigma = torch.ones(5, 1, 1, 1, dtype=torch.float64), torch.logspace(-2, 1, 5).double().reshape(5, 1, 1, 1)
    x_t = alpha * x0 + sigma * eps
    truth = {"x0": x0, "eps": eps, "v": (alpha * eps - sigma * x0) / (1 + sigma**2).sqrt(), "flow": eps - x0}
    torch.testing.assert_close(target(prediction, x0=x0, eps=eps, alpha=alpha, sigma=sigma), truth[prediction])
    estimate = convert(truth[prediction], prediction, x_t=x_t, alpha=alpha, sigma=sigma)
    for name, value in truth.items():
        torch.testing.assert_close(getattr(estimate, name), value, rtol=1e-10, atol=1e-11)


def test_v_is_minus_the_image_where_all_is_noise() -> None:
    process = make("cosine", True)
    x0, eps, _, levels = sample(process)
    last = Parameterization("v", process).target(x0, eps, levels)[-1]
    assert torch.equal(last, -x0[-1])


@pytest.mark.parametrize("prediction", ["eps", "edm"])
@pytest.mark.parametrize("name", VARIANCE_PRESERVING)
def test_eps_and_edm_are_refused_where_the_last_snr_is_zero(name: str, prediction: Prediction) -> None:
    with pytest.raises(UsageError) as caught:
        Parameterization(prediction, make(name, True))
    assert f"{prediction}-prediction cannot be used on a schedule with zero terminal SNR" in str(caught.value)
    assert "`prediction=v`, x0 or flow" in str(caught.value)
    check_prediction(prediction, make(name, False))


def test_an_unknown_prediction() -> None:
    with pytest.raises(UsageError, match=r"unknown prediction 'epsilon'\. Known: eps, x0, v, edm, flow"):
        check_prediction("epsilon", make("linear"))


def test_a_learned_variance_is_the_second_half_of_the_output() -> None:
    process, network = make("linear"), Recorder(copies=2)
    x0, _, x_t, levels = sample(process)
    output = Parameterization("v", process, learned_variance=True).run(network, x_t, levels, None)
    assert torch.equal(output.prediction, 2 * x_t)
    assert torch.equal(output.variance_fraction, (3 * x_t + 1) / 2)  # -1 is beta_tilde, 1 is beta
    for prediction in PREDICTIONS:
        estimate = Parameterization(prediction, process).estimate(output, x_t, levels)
        assert estimate.variance_fraction is output.variance_fraction
        assert Parameterization(prediction, process).estimate(Output(x0), x_t, levels).variance_fraction is None


def test_a_learned_variance_is_refused_where_there_are_no_steps() -> None:
    with pytest.raises(UsageError, match=r"Leave out learned_variance, or use a schedule with continuous=false"):
        Parameterization("edm", make("edm"), learned_variance=True)
    Parameterization("edm", make("edm", continuous=False), learned_variance=True)


def test_a_denoiser_asks_the_network_once_and_converts() -> None:
    process = make("linear")
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


def test_an_estimate_says_what_the_network_gave(parameterization: Parameterization) -> None:
    levels = parameterization.process.levels(torch.full((2,), 7))
    x_t, value = torch.randn(2, 2, 1, 2, 2, dtype=torch.float64).unbind()
    found = parameterization.estimate(Output(value), x_t, levels)
    assert found.prediction == parameterization.prediction
    if found.prediction != "edm":
        torch.testing.assert_close(getattr(found, found.prediction), value)
    assert convert(value, "v", x_t=x_t, alpha=torch.tensor(0.6), sigma=torch.tensor(0.8)).prediction is None
