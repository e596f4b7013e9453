import math

import pytest
import torch
from diffusers import DDPMScheduler

from debiasctl import registry
from debiasctl.diffusion.process import process_of
from debiasctl.errors import PluginOptionsError, UsageError


def table(ref: str) -> torch.Tensor:
    return process_of(registry.create("schedules", ref)).alphas_cumprod


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize(
    ("ref", "settings"),
    [
        ("linear", {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
        ("linear:beta_start=0.001,beta_end=0.01", {"beta_schedule": "linear", "beta_start": 1e-3, "beta_end": 0.01}),
        ("scaled-linear", {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}),
        ("cosine", {"beta_schedule": "squaredcos_cap_v2"}),
    ],
)
def test_the_tables_are_diffusers(ref: str, settings: dict[str, object], rescaled: bool) -> None:
    if rescaled:
        ref += f"{',' if ':' in ref else ':'}zero_terminal_snr=true"
    peer = DDPMScheduler(num_train_timesteps=1000, rescale_betas_zero_snr=rescaled, **settings).alphas_cumprod
    torch.testing.assert_close(table(ref), peer.to(torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "power"), [("linear", 1), ("scaled-linear", 0.5)])
@pytest.mark.parametrize("num_timesteps", [50, 250, 1000, 4000])
def test_betas_are_a_rate_that_rises_in_a_straight_line(name: str, power: float, num_timesteps: int) -> None:
    """beta T / 1000 runs from beta_start to beta_end whatever T is; in its square root for scaled-linear."""
    cumulative = table(f"{name}:beta_start=0.0002,beta_end=0.03,num_timesteps={num_timesteps}")
    assert len(cumulative) == num_timesteps
    betas = 1 - cumulative / torch.cat([torch.ones(1, dtype=torch.float64), cumulative[:-1]])
    rates = (betas * num_timesteps / 1000) ** power
    expected = 0.0002**power + torch.arange(num_timesteps) / (num_timesteps - 1) * (0.03**power - 0.0002**power)
    torch.testing.assert_close(rates, expected.to(torch.float64), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("num_timesteps", [10, 1000])
def test_cosine_follows_its_curve(num_timesteps: int) -> None:
    got = table(f"cosine:s=0.01,num_timesteps={num_timesteps}")
    for t in range(num_timesteps - 1):
        angles = [((step / num_timesteps) + 0.01) / 1.01 * math.pi / 2 for step in (t + 1, 0)]
        assert got[t].item() == pytest.approx(math.cos(angles[0]) ** 2 / math.cos(angles[1]) ** 2, rel=1e-9)
    assert (got[-1] / got[-2]).item() == pytest.approx(1 - 0.999, rel=1e-9)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.7)])
def test_sigmoid_follows_its_curve(start: float, end: float, tau: float) -> None:
    got = table(f"sigmoid:start={start},end={end},tau={tau},num_timesteps=100")

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x / tau))

    for t in range(99):  # the last reaches 0 and is clipped
        u = (t + 1) / 100
        gamma = (sigmoid(end) - sigmoid(u * (end - start) + start)) / (sigmoid(end) - sigmoid(start))
        assert got[t].item() == pytest.approx(gamma, rel=1e-9)
    assert (got[-1] / got[-2]).item() == pytest.approx(1 - 0.999, rel=1e-9)


def test_sigmoid_defaults_are_the_published_ones() -> None:
    assert torch.equal(
        table("sigmoid"), table("sigmoid:start=-3,end=3,tau=1,num_timesteps=1000,zero_terminal_snr=false")
    )


@pytest.mark.parametrize(
    ("options", "sigma_min", "sigma_max", "num_timesteps"),
    [("", 0.002, 80.0, 1000), (":sigma_min=0.01,sigma_max=50,num_timesteps=2", 0.01, 50.0, 2)],
)
def test_edm_has_its_noise_levels(options: str, sigma_min: float, sigma_max: float, num_timesteps: int) -> None:
    cumulative = table(f"edm{options}")
    assert cumulative.dtype == torch.float64
    for t in range(num_timesteps):
        sigma = sigma_min * (sigma_max / sigma_min) ** (t / (num_timesteps - 1))
        assert cumulative[t].item() == pytest.approx(1 / (1 + sigma**2), rel=1e-12)
        assert 1 - cumulative[t].item() == pytest.approx(sigma**2 / (1 + sigma**2), rel=1e-9)
    assert len(cumulative) == num_timesteps


def test_edm_is_log_uniform_in_sigma_and_trains_between_its_levels() -> None:
    process = process_of(registry.create("schedules", "edm"))
    falls = -process.log_snr.diff()
    torch.testing.assert_close(falls, torch.full_like(falls, 2 * math.log(80 / 0.002) / 999), rtol=1e-8, atol=0)
    assert process.continuous is True
    assert process_of(registry.create("schedules", "edm:continuous=false")).continuous is False


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edms_network_sees_what_it_sees_in_the_papers_process(sigma_data: float) -> None:
    """c_in x of x = x0 + sigma eps (Table 1), and alpha x0 + sigma' eps over its standard deviation: one number."""
    process = process_of(registry.create("schedules", "edm"))
    x0, eps = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma = process.snr.rsqrt()
    theirs = (x0 + sigma * eps) / (sigma**2 + sigma_data**2).sqrt()
    ours = (process.alpha * x0 + process.sigma * eps) / (process.alpha**2 * sigma_data**2 + process.sigma**2).sqrt()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("edm:sigma_min=0", "sigma_min: input should be greater than 0"),
        ("edm:sigma_min=80", "sigma_max (80.0) must be greater than sigma_min (80.0)"),
        ("edm:zero_terminal_snr=true", "zero_terminal_snr is not possible with EDM's noise levels"),
        ("linear:num_timesteps=1", "num_timesteps: input should be greater than or equal to 2"),
        ("linear:beta_end=1", "beta_end: input should be less than 1"),
        ("linear:zero_terminal_snr=perhaps", "zero_terminal_snr: input should be a valid boolean"),
        ("scaled-linear:beta_start=0", "beta_start: input should be greater than 0"),
        ("cosine:s=-1", "s: input should be greater than or equal to 0"),
        ("cosine:max_beta=1", "max_beta: input should be less than 1"),
        ("sigmoid:tau=0", "tau: input should be greater than 0"),
        ("sigmoid:start=3,end=3", "end (3.0) must be greater than start (3.0)"),
        ("sigmoid:beta_start=1", "Known: num_timesteps, zero_terminal_snr, continuous, start, end, tau, max_beta"),
    ],
)
def test_options_out_of_range(ref: str, message: str) -> None:
    with pytest.raises(PluginOptionsError) as caught:
        table(ref)
    assert message in str(caught.value)


@pytest.mark.parametrize("ref", ["linear:num_timesteps=20", "scaled-linear:num_timesteps=12"])
def test_too_few_timesteps_for_the_betas(ref: str) -> None:
    with pytest.raises(UsageError, match="lower beta_end or raise num_timesteps"):
        table(ref)
