import pytest
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr as diffusers_rescale

from debiasctl.builtin.schedules.linear import Linear
from debiasctl.diffusion.process import (
    DiffusionProcess,
    alphas_cumprod_from_betas,
    alphas_cumprod_from_function,
    at,
    process_of,
    rescale_zero_terminal_snr,
)
from debiasctl.errors import UsageError

SCHEDULES = ("linear", "scaled-linear", "cosine", "sigmoid")


def make(name: str, **options: object) -> DiffusionProcess:
    from debiasctl import registry

    return process_of(registry.create("schedules", {"name": name, "options": options}))


@pytest.fixture(params=[(name, zero) for name in SCHEDULES for zero in (False, True)], ids=str)
def process(request: pytest.FixtureRequest) -> DiffusionProcess:
    name, zero = request.param
    return make(name, zero_terminal_snr=zero, num_timesteps=200)


def test_the_linear_schedules_published_figures() -> None:
    snr = make("linear").snr
    assert snr.dtype == torch.float64
    assert snr[0].item() == pytest.approx(9999, rel=1e-9)
    assert int((snr < 1).nonzero()[0]) == 259
    inverse_root = snr**-0.5
    assert inverse_root[0].item() == pytest.approx(0.0100, abs=1e-4)
    assert inverse_root[-1].item() == pytest.approx(157.4, abs=0.05)
    assert inverse_root.mean().item() == pytest.approx(17.8, abs=0.05)
    assert (1 / snr)[[0, -1]].tolist() == pytest.approx([1e-4, 2.5e4], rel=0.01)
    assert (1 / snr).mean().item() == pytest.approx(1311, abs=0.5)


def test_the_tables_fit_together(process: DiffusionProcess) -> None:
    close = {"rtol": 1e-12, "atol": 1e-14}
    one = torch.ones(process.num_timesteps, dtype=torch.float64)
    torch.testing.assert_close(process.alpha**2 + process.sigma**2, one, **close)
    torch.testing.assert_close(process.alpha**2, process.alphas_cumprod, **close)
    torch.testing.assert_close(torch.cumprod(1 - process.betas, 0), process.alphas_cumprod, **close)
    torch.testing.assert_close(process.alphas, 1 - process.betas, **close)
    torch.testing.assert_close(process.snr, process.alpha**2 / process.sigma**2, **close)
    torch.testing.assert_close(process.log_snr, process.snr.log(), **close)
    torch.testing.assert_close(process.alphas_cumprod_prev[1:], process.alphas_cumprod[:-1], **close)
    assert process.alphas_cumprod_prev[0] == 1
    assert bool((process.snr.diff() < 0).all())
    tables = [value for value in vars(process).values() if isinstance(value, torch.Tensor)]
    assert len(tables) == 11
    for table in tables:
        assert table.dtype == torch.float64
        assert table.shape == (process.num_timesteps,)


def test_the_posterior_is_bayes_rule(process: DiffusionProcess) -> None:
    """q(x_{t-1} | x_t, x0) ∝ q(x_t | x_{t-1}) q(x_{t-1} | x0), a product of two normal densities of x_{t-1}."""
    x0, x_t = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-1.3], dtype=torch.float64)
    for t in range(1, process.num_timesteps):
        alpha_t, beta_t, before = process.alphas[t], process.betas[t], process.alphas_cumprod[t - 1]
        precision = alpha_t / beta_t + 1 / (1 - before)
        expected = (alpha_t.sqrt() / beta_t * x_t + before.sqrt() / (1 - before) * x0) / precision
        mean, variance = process.posterior(x0.reshape(1, 1, 1, 1), x_t.reshape(1, 1, 1, 1), torch.tensor([t]))
        assert mean.item() == pytest.approx(expected.item(), rel=1e-9)
        assert variance.item() == pytest.approx(1 / precision.item(), rel=1e-9)
    mean, variance = process.posterior(x0.reshape(1, 1, 1, 1), x_t.reshape(1, 1, 1, 1), torch.tensor([0]))
    assert mean.item() == pytest.approx(0.7, rel=1e-12)
    assert variance.item() == 0


def test_noise_is_added_per_image_in_its_dtype() -> None:
    process = make("cosine")
    x0, eps = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).unbind()
    t = torch.tensor([0, 500, 999])
    for dtype in (torch.float32, torch.float64):
        x_t = process.add_noise(x0.to(dtype), eps.to(dtype), process.levels(t))
        assert x_t.dtype == dtype
        for i, step in enumerate(t):
            cumulative = process.alphas_cumprod[step]
            expected = cumulative.sqrt() * x0[i].double() + (1 - cumulative).sqrt() * eps[i].double()
            torch.testing.assert_close(x_t[i].double(), expected, rtol=0, atol=1e-6)


def test_levels_at_timesteps_are_the_tables_bit_for_bit(process: DiffusionProcess) -> None:
    t = torch.arange(process.num_timesteps).flip(0)
    levels = process.levels(t)
    for name in ("alpha", "sigma", "snr"):
        assert torch.equal(getattr(levels, name), getattr(process, name)[t]), name
    assert torch.equal(levels.t, t)


@pytest.mark.parametrize("name", [*SCHEDULES, "edm"])
def test_between_timesteps_log_snr_is_linear_in_t_and_so_half_a_step_beyond_the_ends(name: str) -> None:
    process = make(name, num_timesteps=200, continuous=True)
    below = torch.arange(199)
    # edm's function has all digits, of which its table has lost some where there is little noise
    close = {"rtol": 1e-12, "atol": 1e-10 if name == "edm" else 1e-12}
    for share in (0.0, 0.25, 0.5, 1 - 1e-9):
        levels = process.levels(below + torch.tensor(share, dtype=torch.float64))
        expected = (1 - share) * process.log_snr[:-1] + share * process.log_snr[1:]
        torch.testing.assert_close(levels.snr.log(), expected, **close)
        torch.testing.assert_close(levels.alpha**2 / levels.sigma**2, levels.snr, rtol=1e-12, atol=0)
        torch.testing.assert_close(levels.alpha**2 + levels.sigma**2, torch.ones_like(expected), **close)
        assert levels.snr.dtype == levels.alpha.dtype == levels.sigma.dtype == torch.float64
    beyond = process.levels(torch.tensor([-0.5, 199.5], dtype=torch.float64))
    log_snr = process.log_snr
    expected = torch.stack([1.5 * log_snr[0] - 0.5 * log_snr[1], 1.5 * log_snr[-1] - 0.5 * log_snr[-2]])
    torch.testing.assert_close(beyond.snr.log(), expected, **close)


def test_at_whole_t_what_lies_between_meets_the_tables() -> None:
    process = make("cosine", continuous=True)
    t = torch.arange(1000)
    whole, between = process.levels(t), process.levels(t.double())
    for name in ("alpha", "sigma", "snr"):
        torch.testing.assert_close(getattr(between, name), getattr(whole, name), rtol=1e-12, atol=0)


def test_one_timestep_is_one_noise_level() -> None:
    process = DiffusionProcess(torch.tensor([0.3]), continuous=True)
    assert process.levels(torch.tensor([-0.5, 0.0, 0.5])).alpha.tolist() == pytest.approx([0.3**0.5] * 3)


def test_edms_noise_to_signal_ratio_is_log_linear() -> None:
    process = make("edm", sigma_min=0.01, sigma_max=10.0, num_timesteps=31)
    t = torch.linspace(-0.5, 30.5, 62, dtype=torch.float64)
    levels = process.levels(t)
    torch.testing.assert_close(levels.sigma / levels.alpha, 0.01 * 1000 ** (t / 30), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_continuous_schedule_is_rescaled_between_its_timesteps_too(name: str) -> None:
    """There √alphas_cumprod is that of the schedule, moved and stretched; log-SNR would have to be infinite."""
    plain, rescaled = make(name, continuous=True), make(name, continuous=True, zero_terminal_snr=True)
    assert torch.equal(rescaled.alphas_cumprod, make(name, zero_terminal_snr=True).alphas_cumprod)
    t = torch.linspace(0, 998.999, 4001, dtype=torch.float64)
    found, before = rescaled.levels(t), plain.levels(t)
    first, last = plain.alpha[0], plain.alpha[-1]
    torch.testing.assert_close(found.alpha, (before.alpha - last) * first / (first - last), rtol=1e-9, atol=1e-12)
    assert bool((found.alpha.diff() < 0).all())
    assert bool((found.snr > 0).all())
    # from the last timestep on all is noise, and before the first nothing is changed
    assert rescaled.levels(torch.tensor([999.0, 999.3], dtype=torch.float64)).snr.tolist() == [0.0, 0.0]
    ahead = torch.tensor([-0.5, -0.1], dtype=torch.float64)
    torch.testing.assert_close(rescaled.levels(ahead).snr, plain.levels(ahead).snr, rtol=1e-9, atol=0)
    # levels are found again, up to the last timestep with an SNR
    t = torch.tensor([3.25, 500.0, 998.5], dtype=torch.float64)
    back = rescaled.timestep_of(rescaled.levels(t).snr.log())
    torch.testing.assert_close(back, t.clamp(max=998), rtol=0, atol=1e-6)


def test_tables_are_looked_up_in_float64_and_cast_last() -> None:
    table = torch.tensor([1.0, 1 / 3], dtype=torch.float64)
    got = at(table, torch.tensor([1, 0, 1]), like=torch.zeros(3, 1, 2, 2, dtype=torch.float32))
    assert (got.shape, got.dtype) == ((3, 1, 1, 1), torch.float32)
    assert got.flatten().tolist() == table[[1, 0, 1]].float().tolist()
    assert torch.equal(at(table, torch.tensor([1]), like=torch.zeros(1, dtype=torch.float64)), table[1:])


@pytest.mark.parametrize("name", SCHEDULES)
def test_zero_terminal_snr_keeps_the_first_and_ends_at_zero(name: str) -> None:
    plain, rescaled = make(name), make(name, zero_terminal_snr=True)
    assert rescaled.snr[-1].item() == 0
    assert rescaled.alpha[-1].item() == 0
    assert rescaled.sigma[-1].item() == 1
    assert rescaled.log_snr[-1].item() == -torch.inf
    assert rescaled.alpha[0].item() == pytest.approx(plain.alpha[0].item(), rel=1e-14)
    # a straight-line map of alpha: differences keep their ratios
    ratio = rescaled.alpha.diff() / plain.alpha.diff()
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-6, atol=0)
    assert bool(torch.isfinite(rescaled.posterior_mean_coef_x0).all())
    assert bool(torch.isfinite(rescaled.posterior_variance).all())


@pytest.mark.parametrize("name", SCHEDULES)
def test_zero_terminal_snr_is_diffusers(name: str) -> None:
    process = make(name)
    expected = torch.cumprod(1 - diffusers_rescale(process.betas), 0)
    torch.testing.assert_close(
        rescale_zero_terminal_snr(process.alphas_cumprod), expected.to(torch.float64), rtol=1e-9, atol=1e-14
    )


@pytest.mark.parametrize("betas", [[0.1, 0.0], [0.1, 1.0], [-0.1, 0.2], [0.1, 1.5], [0.1, float("nan")]])
def test_betas_that_are_no_probabilities(betas: list[float]) -> None:
    with pytest.raises(UsageError, match="must stay between 0 and 1"):
        alphas_cumprod_from_betas(torch.tensor(betas, dtype=torch.float64))


def test_few_timesteps_scale_the_betas_out_of_range() -> None:
    with pytest.raises(UsageError, match="with 10 timesteps, lower beta_end or raise num_timesteps"):
        Linear(Linear.Options(num_timesteps=10)).alphas_cumprod()


def test_a_curve_to_zero_has_its_last_beta_clipped() -> None:
    curve = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    assert alphas_cumprod_from_function(curve, max_beta=0.9).tolist() == pytest.approx([0.5, 0.05])


@pytest.mark.parametrize(
    "table",
    [[], [1.0, 0.5], [0.5, 0.5], [0.5, 0.6], [0.5, -0.1], [0.5, float("nan")], [[0.5], [0.4]]],
)
def test_tables_that_are_no_process(table: list[float]) -> None:
    with pytest.raises(UsageError, match="alphas_cumprod must"):
        DiffusionProcess(torch.tensor(table, dtype=torch.float64))
