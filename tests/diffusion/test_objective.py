"""What training minimises: weight, base and probability of t in one, as tables and as draws."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from real_data import digits_dataset
from scipy import stats
from torch import Tensor

from debiasctl import registry
from debiasctl.analysis.weight_curves import schedule_process
from debiasctl.api import TimestepDistribution, Weighting
from debiasctl.diffusion.loss import weighted_losses
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.weighting import weight_in
from debiasctl.errors import DebiasctlError

ZERO = "linear:zero_terminal_snr=true"
SETTINGS = (("eps", "linear"), ("v", "linear"), ("eps", "cosine"), ("v", "cosine"), ("v", ZERO), ("edm", "edm"))
WEIGHTINGS = ("constant", "debiased", "min-snr", "constant-v", "edm", "sigmoid", 'product:factors=[debiased,"p2:k=2"]')
TABLE = "table:axis=snr,points=[[0,1],[1,3],[1e20,2]],corrected=false"
PLAIN = ("uniform", "lognormal", "laplace", "logit-normal", "mode", "cosmap", "beta", "speed", TABLE)
DRAWN = ("stratified", "importance", "loss-second-moment")  # corrected: they draw under a base
BASES = ("uniform", "lognormal")


def make(
    timesteps: Any, weighting: Any = "debiased", *, prediction: str = "eps", schedule: str = "linear", **settings: Any
) -> Objective:
    """An objective whose distribution, where it follows the losses, has seen some of every t."""
    process = schedule_process(schedule)
    if isinstance(timesteps, str):
        timesteps = registry.create("timesteps", timesteps)
    if isinstance(weighting, str):
        weighting = registry.create("weightings", weighting)
    parameterization = Parameterization(prediction, process, sigma_data=settings.pop("sigma_data", 0.5))
    objective = Objective(parameterization, weighting, timesteps, **settings)
    if objective.observes:
        t = torch.arange(process.num_timesteps).repeat(10)
        objective.observe(t, 0.1 + torch.rand(len(t), generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    return objective


def draw(objective: Objective, draws: Tensor, progress: float = 0.0, shared: float = 0.3, size: int = 0) -> Draw:
    positions, one = torch.arange(len(draws)), torch.tensor([shared], dtype=torch.float64)
    return objective.draw(draws, shared=one, positions=positions, batch_size=size or len(draws), progress=progress)


def grid(count: int) -> Tensor:
    """`count` uniform numbers that leave out none: sums over them are integrals over u."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


class Distribution(TimestepDistribution):
    """A third party's distribution of t."""

    corrected = False

    def __init__(self, q: Callable[[Tensor], Tensor], base: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__(self.Options())
        self.q, self.corrected = q, base is not None
        if base is not None:
            self.base = lambda context: base(context.snr)

    def probabilities(self, context: Any) -> Tensor:
        return self.q(context.snr)


def test_every_registered_distribution_is_among_these() -> None:
    ours = {record.name for record in registry.records("timesteps") if record.distribution == "debiasctl"}
    assert ours == {reference.partition(":")[0] for reference in (*PLAIN, *DRAWN)}


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(("prediction", "schedule"), SETTINGS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_drawing_under_a_base_leaves_the_objective(weighting: str, prediction: str, schedule: str) -> None:
    """Σ q correction weight f = Σ base weight f for whatever errors f(t), where base is drawn from directly."""
    num_timesteps = schedule_process(schedule).num_timesteps
    f = torch.rand(num_timesteps, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    settings = {"prediction": prediction, "schedule": schedule}
    for base in BASES:
        plain = make(base, weighting, **settings).tables()
        expected = (plain.probability * plain.weight * f).sum()
        for name in DRAWN:
            found = make(f"{name}:base={base}", weighting, **settings).tables()
            assert float((found.probability * found.correction * found.weight * f).sum()) == pytest.approx(
                float(expected), rel=1e-12
            )
            torch.testing.assert_close(found.base, plain.probability, rtol=1e-12, atol=0)
            torch.testing.assert_close(found.effective, plain.effective, rtol=1e-11, atol=0)
            moved = not torch.allclose(found.probability, found.base, rtol=1e-3, atol=0)
            assert moved == (name != "stratified" and (name, weighting) != ("importance", _flat(prediction)))


def _flat(prediction: str) -> str:
    """The weighting that is constant on the network's output, so that importance has nothing to do."""
    return {"eps": "constant", "v": "constant-v", "edm": "edm"}[prediction]


@pytest.mark.parametrize(("prediction", "schedule"), SETTINGS)
@pytest.mark.parametrize("timesteps", [*PLAIN, *DRAWN, "importance:base=laplace"])
def test_tables(timesteps: str, prediction: str, schedule: str) -> None:
    for weighting in WEIGHTINGS:
        mean, raw = (
            make(timesteps, weighting, prediction=prediction, schedule=schedule, normalize=normalize).tables()
            for normalize in ("mean", "none")
        )
        for tables in (mean, raw):
            for table in (tables.base, tables.probability, tables.weight, tables.correction, tables.effective):
                assert table.dtype == torch.float64
                assert bool((torch.isfinite(table) & (table >= 0)).all())
            assert float(tables.base.sum()) == pytest.approx(1, rel=1e-12)
            assert float(tables.probability.sum()) == pytest.approx(1, rel=1e-12)
            assert float(tables.effective.mean()) == pytest.approx(1, rel=1e-12)
            effective = tables.effective * (tables.base * tables.weight).mean()
            torch.testing.assert_close(effective, tables.base * tables.weight, rtol=1e-12, atol=0)
        assert float((mean.base * mean.weight).sum()) == pytest.approx(1, rel=1e-12)
        torch.testing.assert_close(mean.weight * (raw.base * raw.weight).sum(), raw.weight, rtol=1e-12, atol=0)
        if timesteps in PLAIN:  # part of the objective: nothing is corrected
            assert torch.equal(mean.base, mean.probability)
            assert torch.equal(mean.correction, (mean.probability > 0).double())


@pytest.mark.parametrize(("prediction", "schedule"), SETTINGS)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("base", BASES)
def test_importance_counts_every_drawn_error_alike(base: str, weighting: str, prediction: str, schedule: str) -> None:
    tables = make(f"importance:base={base}", weighting, prediction=prediction, schedule=schedule).tables()
    product = (tables.correction * tables.weight)[tables.probability > 0]
    torch.testing.assert_close(product, torch.ones_like(product), rtol=1e-11, atol=0)


@pytest.mark.parametrize("sigma_data", [0.5, 0.3])
@pytest.mark.parametrize("normalize", ["mean", "none"])
def test_edm_has_weight_1_on_what_its_network_predicts(normalize: str, sigma_data: float) -> None:
    objective = make("lognormal", f"edm:sigma_data={sigma_data}", prediction="edm", schedule="edm",
                     sigma_data=sigma_data, normalize=normalize)  # fmt: skip
    drawn = draw(objective, grid(999))
    for weight in (objective.tables().weight, drawn.weight, drawn.correction):
        torch.testing.assert_close(weight, torch.ones_like(weight), rtol=1e-12, atol=0)


# ---------------------------------------------------------------- draws


@pytest.mark.parametrize("schedule", ["linear", ZERO])
@pytest.mark.parametrize("timesteps", [*PLAIN, *(name for name in DRAWN if name != "stratified")])
def test_t_is_the_quantile_of_u(timesteps: str, schedule: str) -> None:
    objective = make(timesteps, prediction="v", schedule=schedule)
    tables, count = objective.tables(), 200_000
    drawn = draw(objective, grid(count))
    t = drawn.levels.t
    assert torch.equal(t, drawn.timestep)
    assert bool((t.diff() >= 0).all())
    share = torch.bincount(t, minlength=1000) / count
    assert float((share - tables.probability).abs().max()) <= 1 / count + 1e-12
    assert torch.equal(drawn.weight, tables.weight[t])
    assert torch.equal(drawn.correction, tables.correction[t])
    assert torch.equal(drawn.levels.snr, objective.process.snr[t])
    ends = draw(objective, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)).timestep
    possible = tables.probability.nonzero().flatten()
    assert ends.tolist() == [int(possible[0]), int(possible[-1])]


def test_a_u_upon_an_edge_belongs_to_the_t_above() -> None:
    """So that u = 0 draws nothing that has no probability."""
    quarters = Distribution(lambda snr: torch.tensor([0.0, 2.0, 0.0, 1.0, 1.0], dtype=torch.float64))
    objective = make(quarters, schedule="cosine:num_timesteps=5")
    u = torch.tensor([0, 0.49, 0.5, 0.74, 0.75, 0.99], dtype=torch.float64)
    assert draw(objective, u).timestep.tolist() == [1, 1, 3, 3, 4, 4]


def test_uniform_timesteps_are_the_floor_of_t_times_u() -> None:
    u = grid(4000)
    assert torch.equal(draw(make("uniform"), u).timestep, (1000 * u).floor().long())


def test_a_stratified_batch_is_spread_by_its_position_in_the_global_batch() -> None:
    objective, noise = make("stratified"), torch.rand(10, dtype=torch.float64)
    whole = draw(objective, noise, shared=0.4205).timestep
    assert sorted((whole // 100).tolist()) == list(range(10))
    assert torch.equal(whole, (torch.arange(10) * 100 + 420) % 1000)
    shared, positions = torch.tensor([0.4205], dtype=torch.float64), torch.arange(5, 10)
    half = objective.draw(noise[5:], shared=shared, positions=positions, batch_size=10, progress=0).timestep
    assert torch.equal(half, whole[5:])


@pytest.mark.parametrize("timesteps", ["uniform", "lognormal", "stratified", "importance"])
def test_runs_under_two_weightings_are_paired_where_the_weighting_does_not_draw(timesteps: str) -> None:
    u = torch.rand(256, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    one, two = (draw(make(timesteps, weighting), u).timestep for weighting in ("debiased", "min-snr"))
    assert torch.equal(one, two) == (timesteps != "importance")


@pytest.mark.parametrize("schedule", ["edm", "linear:continuous=true", "cosine:continuous=true"])
@pytest.mark.parametrize("timesteps", ["uniform", "lognormal", "importance:base=lognormal", "speed"])
@pytest.mark.parametrize("normalize", ["mean", "none"])
def test_continuous_draws(timesteps: str, schedule: str, normalize: str) -> None:
    objective = make(timesteps, prediction="v", schedule=schedule, normalize=normalize)
    tables, count = objective.tables(), 100_000
    drawn = draw(objective, grid(count))
    t = drawn.levels.t
    assert bool(((t >= -0.5) & (t < 999.5)).all())
    assert bool((t.diff() >= 0).all())
    assert torch.equal(drawn.timestep, (t + 0.5).floor().long().clamp(max=999))
    assert float((torch.bincount(drawn.timestep, minlength=1000) / count - tables.probability).abs().max()) <= 2 / count
    if timesteps == "uniform":
        torch.testing.assert_close(t, 1000 * grid(count) - 0.5, rtol=0, atol=1e-9)
    # the weight is that of the SNR drawn, under the scale that makes the tables' mean 1
    log_snr = torch.lerp(objective.process.log_snr[:-1], objective.process.log_snr[1:], 0.25)
    between = objective.process.levels(torch.arange(999) + 0.25).snr
    # edm's function has all digits, of which its table has lost some where there is little noise
    torch.testing.assert_close(between.log(), log_snr, rtol=1e-12, atol=1e-10 if schedule == "edm" else 1e-12)
    scale = 1 / (tables.base * weight_in(objective.weighting, "v", snr=objective.process.snr)).sum()
    expected = drawn.levels.snr.sqrt() / (drawn.levels.snr + 1) * (scale if normalize == "mean" else 1)
    torch.testing.assert_close(drawn.weight, expected, rtol=1e-10, atol=0)
    assert torch.equal(drawn.correction, tables.correction[drawn.timestep])


@pytest.mark.parametrize("base", BASES)
def test_drawing_under_a_base_leaves_a_continuous_objective(base: str) -> None:
    """∫ correction weight f du for errors f of the noise level drawn, between the timesteps too."""

    def expected(timesteps: str) -> float:
        drawn = draw(make(timesteps, "min-snr", prediction="v", schedule="edm"), grid(400_000))
        return float((drawn.correction * drawn.weight * (1 + drawn.levels.snr.log().sin())).mean())

    plain = expected(base)
    for name in DRAWN:
        assert expected(f"{name}:base={base}") == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (-0.4, 1.0)])
def test_lognormal_noise_levels_are_edms(mean: float, std: float) -> None:
    """ln sigma of the noise levels drawn on EDM's schedule is normal: Kolmogorov-Smirnov on independent draws."""
    objective = make(f"lognormal:mean={mean},std={std}", "edm", prediction="edm", schedule="edm")
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    levels = draw(objective, u).levels
    log_sigma = (levels.sigma / levels.alpha).log().numpy()
    assert stats.kstest(log_sigma, stats.norm(mean, std).cdf).pvalue > 0.05
    assert stats.kstest(log_sigma, stats.norm(mean + 0.05, std).cdf).pvalue < 1e-3  # it is sharp enough to tell


@pytest.mark.parametrize("normalize", ["mean", "none"])
def test_lognormal_edm_edm_is_the_loss_of_edm(normalize: str) -> None:
    """λ(σ) ||D(y + n; σ) - y||² with n ~ N(0, σ²), written as arXiv 2206.00364 does (Eq. 2, 7, 8 and Table 1)."""
    size, sigma_data = 64, 0.5
    y = digits_dataset(every=6).train.images(torch.arange(size)).double() / 127.5 - 1
    eps = torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    objective = make("lognormal", "edm", prediction="edm", schedule="edm", normalize=normalize)
    drawn = draw(objective, torch.rand(size, generator=torch.Generator().manual_seed(5), dtype=torch.float64))
    levels, parameterization = drawn.levels, objective.parameterization

    def network(x: Tensor, noise_level: Tensor, labels: Tensor | None) -> Tensor:
        return torch.tanh(1.3 * x + noise_level[:, None, None, None])

    x_t = objective.process.add_noise(y, eps, levels)
    output = parameterization.run(network, x_t, levels, None)  # type: ignore[arg-type]
    ours = drawn.correction * weighted_losses(output.prediction, parameterization.target(y, eps, levels), drawn.weight)

    sigma = (levels.sigma / levels.alpha)[:, None, None, None]
    noisy, norm = y + sigma * eps, (sigma**2 + sigma_data**2).sqrt()
    inner = network(noisy / norm, (sigma.log() / 4).flatten(), None)
    denoised = sigma_data**2 / norm**2 * noisy + sigma * sigma_data / norm * inner
    weight = norm**2 / (sigma * sigma_data) ** 2
    torch.testing.assert_close(ours, (weight * (denoised - y) ** 2).flatten(1).mean(1), rtol=1e-9, atol=0)


# ---------------------------------------------------------------- what changes in the course of training


def test_a_weighting_that_moves_moves_the_objective_and_what_is_drawn() -> None:
    moving = "interpolate:p=0,p_end=1,until=0.5"
    for timesteps in ("uniform", "importance"):
        objective = make(timesteps, moving)
        assert objective.varies
        for progress, power in ((0.0, 0.0), (0.25, 0.5), (0.5, 1.0), (0.9, 1.0), (0.1, 0.2)):  # back again, too
            still = make(timesteps, f"interpolate:p={power}")
            torch.testing.assert_close(objective.tables(progress).weight, still.tables().weight, rtol=1e-9, atol=0)
            mine, other = draw(objective, grid(300), progress), draw(still, grid(300))
            assert torch.equal(mine.timestep, other.timestep)
            torch.testing.assert_close(mine.weight, other.weight, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("weighting", "varies"),
    [
        ("interpolate:p=0.5", False),
        ("interpolate:p=0.5,p_end=0.5", False),
        ('product:factors=["interpolate:p=0,p_end=1"]', True),
        ("uncertainty:base='interpolate:p=0,p_end=1'", True),
        ("uncertainty", False),
    ],
)
def test_which_weightings_depend_on_the_budget(weighting: str, varies: bool) -> None:
    assert make("uniform", weighting).varies is varies
    assert make("loss-second-moment", weighting).varies is varies  # which follows the losses, not the budget


def test_a_distribution_that_follows_the_losses_is_asked_anew() -> None:
    objective = make(registry.create("timesteps", "loss-second-moment:history=1,base_share=0.5"), schedule="cosine")
    before = objective.tables().probability
    t = torch.arange(1000)
    objective.observe(t, 1.0 + 9 * (t == 500))
    after = objective.tables().probability
    assert not torch.equal(before, after)
    assert float(after[500] / after[499]) == pytest.approx((0.5 * 10 / 1009 + 0.0005) / (0.5 / 1009 + 0.0005))
    assert not make("importance").observes
    make("importance").observe(t, t.double())  # nothing to be told, and no harm


# ---------------------------------------------------------------- what is said and refused


@pytest.mark.parametrize("weighting", ["debiased", "constant", "min-snr", "p2"])
@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_what_is_ignored_where_sampling_starts_is_said(weighting: str, prediction: str) -> None:
    for timesteps in ("uniform", "importance"):
        message = make(timesteps, weighting, prediction=prediction, schedule=ZERO).warning()
        assert message is not None
        assert f"weight on {prediction} at t = 999, where sampling starts" in message
        keep = message.partition("are ")[2].replace(" and ", ", ").split(", ")
        assert set(keep) == {"constant-v", "constant-x0", "truncated-snr", "edm"}


@pytest.mark.parametrize(
    ("prediction", "schedule", "weighting", "timesteps"),
    [
        *((p, ZERO, w, "uniform") for p in ("v", "x0") for w in ("constant-v", "constant-x0", "truncated-snr", "edm")),
        ("eps", "linear", "constant", "uniform"),
        ("eps", "linear", "debiased", "uniform"),
        ("eps", "linear", "debiased", "importance"),
        ("v", "linear", "debiased", "uniform"),
        ("edm", "edm", "edm", "lognormal"),
        ("edm", "edm", "uncertainty", "lognormal:mean=-0.4,std=1"),
    ],
)
def test_nothing_is_said_of_what_is_trained_there(
    prediction: str, schedule: str, weighting: str, timesteps: str
) -> None:
    assert make(timesteps, weighting, prediction=prediction, schedule=schedule).warning() is None


@pytest.mark.parametrize(
    "q",
    [
        torch.zeros_like,
        lambda snr: snr[:-1],
        lambda snr: torch.arange(len(snr)) - 1.0,
        lambda snr: torch.full_like(snr, math.nan),
        lambda snr: torch.full_like(snr, math.inf),
    ],
)
def test_what_is_no_distribution_is_refused(q: Callable[[Tensor], Tensor]) -> None:
    for distribution in (Distribution(q), Distribution(torch.ones_like, q)):
        with pytest.raises(DebiasctlError, match="timestep distribution Distribution gives no probability for every t"):
            make(distribution).tables()


def test_a_way_of_drawing_that_leaves_something_out_is_refused() -> None:
    def late(snr: Tensor) -> Tensor:
        return (torch.arange(len(snr)) > 0).double()

    with pytest.raises(DebiasctlError, match="Distribution never draws some t that contributes to the loss"):
        make(Distribution(late, torch.ones_like)).tables()
    assert float(make(Distribution(late, late)).tables().correction[0]) == 0  # what its base leaves out may be
    halved = make(Distribution(lambda snr: 5 * late(snr) + 5, torch.ones_like)).tables()  # q and base of any sum
    assert float(halved.correction[0]) == pytest.approx(1999 / 1000)


def test_a_third_partys_corrected_distribution_without_a_base_is_under_uniform() -> None:
    distribution = Distribution(lambda snr: torch.arange(1.0, len(snr) + 1))
    distribution.corrected = True
    tables = make(distribution).tables()
    torch.testing.assert_close(tables.probability * tables.correction, torch.full_like(tables.base, 1e-3))


def test_weights_that_are_too_small_to_be_scaled_are_refused() -> None:
    """Their mean's reciprocal is infinite, and training would begin with an infinite loss."""

    class Least(Weighting):
        space = "eps"

        def __call__(self, snr: Tensor) -> Tensor:
            return torch.full_like(snr, 1e-310)

    with pytest.raises(DebiasctlError, match="weighting Least gives weights of mean 1e-310, which cannot be scaled"):
        make("uniform", Least(Least.Options())).tables()


def test_a_weighting_of_nothing_is_refused() -> None:
    class Nothing(Weighting):
        space = "eps"

        def __call__(self, snr: Tensor) -> Tensor:
            return torch.zeros_like(snr)

    for normalize in ("mean", "none"):
        with pytest.raises(DebiasctlError, match="weighting Nothing is zero at every timestep"):
            make("uniform", Nothing(Nothing.Options()), normalize=normalize).tables()


# ---------------------------------------------------------------- weight that meets in one timestep


@pytest.mark.parametrize(
    "prediction, weighting, schedule, at, share",
    [
        ("eps", "debiased", "cosine", 999, 82),
        ("eps", "constant-v", "cosine", 999, 100),
        ("x0", "constant", "linear", 0, 32),
    ],
)
def test_a_concentrated_weight_is_noted_with_a_prediction_that_spreads_it(
    prediction: str, weighting: str, schedule: str, at: int, share: int
) -> None:
    note = make("uniform", weighting, prediction=prediction, schedule=schedule).concentration()
    assert note is not None
    assert f"the effective weight on {prediction} is concentrated: t = {at} alone carries {share}% of it" in note
    assert note.endswith("; `model.prediction=v` spreads it")
    assert make("uniform", weighting, prediction="v", schedule=schedule).concentration() is None


def test_the_effective_number_of_timesteps() -> None:
    """1 / sum of squared shares: with a half on one t and the other half on another, 2."""

    two = torch.tensor([0.5, 0.5] + [0.0] * 998, dtype=torch.float64)
    note = make(Distribution(lambda snr: two), "constant").concentration()
    assert note is not None
    assert "t = 0 alone carries 50% of it, as if 2.0 of the 1000 timesteps were trained" in note
    assert note.endswith("choose another weighting or schedule")


@pytest.mark.parametrize("weighting", [name for name in WEIGHTINGS if "product" not in name])
@pytest.mark.parametrize(
    "prediction, schedule", [("eps", "linear"), ("v", "linear"), ("v", "cosine"), ("edm", "edm"), ("v", ZERO)]
)
def test_ordinary_settings_are_not_noted(weighting: str, prediction: str, schedule: str) -> None:
    assert make("uniform", weighting, prediction=prediction, schedule=schedule).concentration() is None


def test_a_learned_weight_balances_the_timesteps_itself() -> None:
    weighting = registry.create("weightings", "uncertainty")
    settings = {"prediction": "x0", "schedule": "linear"}
    assert make("uniform", weighting, **settings).concentration() is not None
    assert make("uniform", weighting, **settings, learned=weighting.learned()).concentration() is None


def test_few_timesteps_are_few() -> None:
    assert make("uniform", "debiased", prediction="x0", schedule="cosine:num_timesteps=20").concentration() is None
