import hashlib
import math

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from debiasctl import registry
from debiasctl.api import Schedule
from debiasctl.diffusion.process import DiffusionProcess, process_of
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
        ("flow:zero_terminal_snr=true", "zero_terminal_snr has no effect on rectified flow, whose last SNR is 0"),
        ("flow:shift=0", "shift"),
        ("flow:shift=large", "shift"),
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


# ---------------------------------------------------------------- tables as recorded

# alphas_cumprod at 0, T/2 and T - 1; all of the table is held by the digest of its bits in float32 (in float64 the last
# bit of a cosine is the processor's), and that of the schedules of plain arithmetic by the digest in float64 too
RECORDED = {
    "linear": ("0x1.fff2e48e8a71ep-1", "0x1.3ea7b576a75f6p-4", "0x1.528cc8c61621cp-15", "cceb166efe4a39c4"),
    "linear:num_timesteps=250": (
        "0x1.ffcb923a29c78p-1", "0x1.2f3aef2032189p-4", "0x1.11d6a702ee784p-15", "dda9413732236dfa",
    ),
    "linear:num_timesteps=4000": (
        "0x1.fffcb923a29c7p-1", "0x1.428ba9fc370b5p-4", "0x1.643c29c826019p-15", "27c87f316a735bf4",
    ),
    "linear:zero_terminal_snr=true": ("0x1.fff2e48e8a71ep-1", "0x1.3435603990c5bp-4", "0x0.0p+0", "b9dd549faea8c635"),
    "scaled-linear": ("0x1.ff9096bb98c7ep-1", "0x1.1af6f47f57a36p-2", "0x1.31677ab5b5c74p-8", "feaa14fe1393b7ed"),
    "scaled-linear:num_timesteps=100": (
        "0x1.fba5e353f7ceep-1", "0x1.0bbf7d0c11d11p-2", "0x1.f4197cb1eb6ddp-9", "93f25bcfaa3b20b3",
    ),
    "cosine": ("0x1.fffa96bb35877p-1", "0x1.f8199aafe4b0dp-2", "0x1.4dcea379988c9p-29", "7ec53a3f730e4d10"),
    "cosine:num_timesteps=50": (
        "0x1.ff1af32d0ba36p-1", "0x1.d9cfd3dfff256p-2", "0x1.04b3e0776eda1p-20", "9324a3eaccc2dda7",
    ),
    "cosine:zero_terminal_snr=true": ("0x1.fffa96bb35876p-1", "0x1.f81431f7e56adp-2", "0x0.0p+0", "527fa8dd657d33cc"),
    "sigmoid": ("0x1.ffd8a44d5097dp-1", "0x1.fe4d9463fff8fp-2", "0x1.426c1e30648afp-22", "f8321aecbd54a609"),
    "sigmoid:num_timesteps=64": (
        "0x1.fd8002cebb647p-1", "0x1.e58120fe1773cp-2", "0x1.47aca47d3d475p-18", "8a0c7fd2b0ec19a2",
    ),
    "edm": ("0x1.ffff79c866299p-1", "0x1.b8bb26ad03443p-1", "0x1.47a0f98f9e18bp-13", "f787378959b68299"),
    "edm:num_timesteps=18": (
        "0x1.ffff79c866299p-1", "0x1.8a533a0d855ecp-1", "0x1.47a0f98f9e18bp-13", "7f58b6b2504592a3",
    ),
}  # fmt: skip
EXACT = {
    "linear": "54a64b0e027a03e7",
    "linear:num_timesteps=250": "9d9fe94966c2f6aa",
    "linear:num_timesteps=4000": "962692daf70b07a9",
    "linear:zero_terminal_snr=true": "cc1a4f73f22fb335",
    "scaled-linear": "18924a276f95ac49",
    "scaled-linear:num_timesteps=100": "48d764359cb7030c",
}


def digest(values: torch.Tensor) -> str:
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("ref", RECORDED)
def test_tables_are_those_that_were_recorded(ref: str) -> None:
    found = table(ref)
    *entries, single = RECORDED[ref]
    for t, entry in zip((0, len(found) // 2, len(found) - 1), entries, strict=True):
        assert found[t].item() == pytest.approx(float.fromhex(entry), rel=4e-16, abs=0)
    assert digest(found.float()) == single
    if ref in EXACT:
        assert digest(found) == EXACT[ref]


# ---------------------------------------------------------------- functions


def flow(shift: float = 1.0, size: int = 1000) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=size, shift=shift)


def share_of_noise(process: DiffusionProcess) -> torch.Tensor:
    return process.sigma / (process.alpha + process.sigma)


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.5])
@pytest.mark.parametrize("num_timesteps", [7, 1000])
def test_flow_has_diffusers_levels(shift: float, num_timesteps: int) -> None:
    process = process_of(registry.create("schedules", f"flow:shift={shift},num_timesteps={num_timesteps}"))
    s = share_of_noise(process)
    torch.testing.assert_close(s, flow(shift, num_timesteps).sigmas.flip(0).double(), rtol=1e-6, atol=1e-7)
    plain = torch.arange(1, num_timesteps + 1, dtype=torch.float64) / num_timesteps
    torch.testing.assert_close(s, shift * plain / (1 + (shift - 1) * plain), rtol=1e-13, atol=0)
    assert (process.snr[-1].item(), s[-1].item()) == (0.0, 1.0)
    torch.testing.assert_close(process.alpha**2, process.alphas_cumprod, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_is_a_function_between_its_timesteps_too(shift: float) -> None:
    """s is a straight line in t before the shift, from 0 at t = -1 to 1 at T - 1; log-SNR is far from one there."""
    process = process_of(registry.create("schedules", f"flow:shift={shift},num_timesteps=10"))
    t = torch.tensor([-0.999, -0.5, 0.3, 4.5, 8.5, 8.999], dtype=torch.float64)
    levels, plain = process.levels(t), (t + 1) / 10
    s = shift * plain / (1 + (shift - 1) * plain)
    torch.testing.assert_close(levels.sigma / (levels.alpha + levels.sigma), s, rtol=1e-12, atol=0)
    inside = t[(t > 0) & (t < 8)]
    torch.testing.assert_close(process.timestep_of(process.levels(inside).snr.log()), inside, rtol=0, atol=1e-11)
    assert process.timestep_of(process.log_snr[[0, 5]]).tolist() == [0.0, 5.0]


@pytest.mark.parametrize(
    ("size", "shift"), [(8, 1.0), (255, 1.0), (256, 1.0), (341, 1.0), (512, 1.5), (1024, 3.0), (2048, 6.0)]
)
def test_flows_own_shift_is_sd3s(size: int, shift: float) -> None:
    resolved = registry.resolve("schedules", "flow")
    assert resolved.plugin.resolve_options(resolved.options, size).shift == shift
    given = registry.resolve("schedules", "flow:shift=2")
    assert given.plugin.resolve_options(given.options, size).shift == 2


def test_edms_function_is_that_of_its_levels() -> None:
    schedule = registry.create("schedules", "edm:sigma_min=0.01,sigma_max=10,num_timesteps=31")
    t = torch.arange(31, dtype=torch.float64)
    log_snr = schedule.log_snr((t + 0.5) / 31)
    torch.testing.assert_close(log_snr, torch.logit(schedule.alphas_cumprod()), rtol=0, atol=1e-11)
    between = process_of(schedule).levels(t + 0.25)
    torch.testing.assert_close(between.sigma / between.alpha, 0.01 * 1000 ** ((t + 0.25) / 30), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["linear", "scaled-linear", "cosine", "sigmoid"])
def test_a_tables_function_is_its_interpolant(name: str) -> None:
    schedule = registry.create("schedules", f"{name}:num_timesteps=100,continuous=true")
    t = torch.linspace(-0.5, 99.5, 301, dtype=torch.float64)
    expected = process_of(schedule).levels(t).snr.log()
    torch.testing.assert_close(schedule.log_snr((t + 0.5) / 100), expected, rtol=1e-11, atol=1e-11)


class Third(Schedule):
    """What someone writes who has a function: log SNR = 10 - 20 u."""

    def log_snr(self, u: torch.Tensor) -> torch.Tensor:
        return 10 - 20 * u


class Older(Schedule):
    """What someone wrote before schedules could be functions."""

    def alphas_cumprod(self) -> torch.Tensor:
        return torch.linspace(0.99, 0.01, self.options.num_timesteps, dtype=torch.float64)


def test_a_schedule_is_written_as_a_function_or_as_a_table() -> None:
    options = Third.Options(num_timesteps=10, continuous=True)
    process = process_of(Third(options))
    t = torch.tensor([-0.5, 0, 1.3, 9, 9.5], dtype=torch.float64)
    torch.testing.assert_close(process.levels(t).snr.log(), 10 - 20 * (t + 0.5) / 10, rtol=1e-12, atol=1e-12)
    older = process_of(Older(options))
    torch.testing.assert_close(older.alphas_cumprod, torch.linspace(0.99, 0.01, 10, dtype=torch.float64))
    middle = older.levels(torch.tensor([2.5], dtype=torch.float64)).snr.log()
    torch.testing.assert_close(middle, older.log_snr[2:4].mean()[None], rtol=1e-12, atol=0)
    assert Schedule.__abstractmethods__ == {"alphas_cumprod"}
