"""The distributions that are part of the objective, against SciPy and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from timestep_cases import SCHEDULES, context, context_of, make

from debiasctl import registry
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.errors import UsageError

IN_LOG_SNR = {
    "lognormal": stats.norm(2.4, 2.4),  # λ = -2 ln sigma
    "lognormal:mean=-0.4,std=1": stats.norm(0.8, 2),
    "laplace": stats.laplace(0, 0.5),
    "laplace:location=-1,scale=2": stats.laplace(-1, 2),
}


def probabilities(ref: str, schedule: str) -> np.ndarray:
    return registry.create("timesteps", ref).probabilities(context(schedule)).numpy()


@pytest.mark.parametrize("ref", IN_LOG_SNR)
def test_a_fine_schedule_has_the_density_named(ref: str) -> None:
    """On noise levels from 1e-5 to 1e5, next to none of the density is cut off."""
    process = make("edm:num_timesteps=4001,sigma_min=1e-5,sigma_max=1e5")
    q = registry.create("timesteps", ref).probabilities(context_of(process)).numpy()
    log_snr, expected = process.log_snr.numpy(), IN_LOG_SNR[ref]
    edges = (log_snr[1:] + log_snr[:-1]) / 2  # each t stands for the noise levels nearest to it
    np.testing.assert_allclose(1 - q.cumsum()[:-1], expected.cdf(edges), rtol=0, atol=1e-3)
    mean = (q * log_snr).sum()
    assert mean == pytest.approx(expected.mean(), abs=1e-3)
    assert (q * (log_snr - mean) ** 2).sum() == pytest.approx(expected.var(), rel=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ref", IN_LOG_SNR)
def test_on_every_schedule_density_is_per_noise_level_not_per_timestep(ref: str, schedule: str) -> None:
    """q(t) ∝ p(λ_t) |dλ/dt|, the derivative by NumPy's differences."""
    process, q = make(schedule), probabilities(ref, schedule)
    log_snr = process.log_snr.numpy()[process.snr.numpy() > 0]
    expected = IN_LOG_SNR[ref].pdf(log_snr) * -np.gradient(log_snr)
    seen = expected > 1e-150
    np.testing.assert_allclose(q[: len(log_snr)][seen], (expected / expected.sum())[seen], rtol=1e-9)
    assert q[len(log_snr) :].sum() == 0


def test_the_same_density_on_two_schedules() -> None:
    """What share of training lies above a noise level is a matter of the distribution and not of the schedule."""
    distribution = stats.laplace(0, 0.5)
    for schedule in ("linear", "cosine", "edm", "sigmoid"):
        process, q = make(schedule), probabilities("laplace", schedule)
        middle = ((process.log_snr[1:] + process.log_snr[:-1]) / 2).numpy()
        last = len(middle) - 1
        cut = distribution.cdf(middle[[last, 0]])
        expected = (distribution.cdf(middle) - cut[0]) / (cut[1] - cut[0])
        np.testing.assert_allclose(1 - q.cumsum()[:-1], expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("ref", ["lognormal:mean=50,std=0.01", "laplace:location=900,scale=0.01"])
def test_a_density_far_from_the_schedule_stays_finite(ref: str) -> None:
    q = probabilities(ref, "linear")
    assert np.isfinite(q).all()
    assert q[-1 if ref.startswith("lognormal") else 0] == pytest.approx(1)
    assert set(q[q > 0] < 1e-200) == {False}  # nothing that would underflow times a weight


@pytest.mark.parametrize("schedule", ["linear", "edm", "linear:num_timesteps=100"])
@pytest.mark.parametrize(("mean", "std"), [(0, 1), (1, 0.7), (-0.5, 2), (30, 1)])
def test_logit_normal_is_exact_and_knows_only_time(mean: float, std: float, schedule: str) -> None:
    q = probabilities(f"logit-normal:mean={mean},std={std}", schedule)
    time = np.arange(len(q) + 1) / len(q)
    with np.errstate(divide="ignore"):
        logit = np.log(time) - np.log1p(-time)
    normal = stats.norm(mean, std)
    expected = np.where(logit[:-1] > mean, -np.diff(normal.sf(logit)), np.diff(normal.cdf(logit)))
    np.testing.assert_allclose(q, expected, rtol=1e-9, atol=1e-300)
    assert q.sum() == pytest.approx(1, rel=1e-12)
    # a half of all time lies before sigmoid(mean)
    if mean < 5:
        half = 1 / (1 + np.exp(-mean))
        assert np.interp(half, time[1:], q.cumsum()) == pytest.approx(0.5, abs=1e-4 * 1000 / len(q))


def test_logit_normal_is_lognormal_on_rectified_flow() -> None:
    """There sigma = time/(1 - time), taken at the middle of each timestep."""
    time = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    process = DiffusionProcess((1 - time) ** 2 / ((1 - time) ** 2 + time**2))
    options = "mean=0.3,std=0.8"
    pair = [
        registry.create("timesteps", f"{name}:{options}").probabilities(context_of(process)).numpy()
        for name in ("logit-normal", "lognormal")
    ]
    np.testing.assert_allclose(pair[0].cumsum(), pair[1].cumsum(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("k", "tau", "num_timesteps"), [(5, 700, 1000), (1, 3, 100), (2.5, 100, 100), (10, 1, 50)])
def test_speed_has_two_levels(k: float, tau: int, num_timesteps: int) -> None:
    q = probabilities(f"speed:k={k},tau={tau}", f"linear:num_timesteps={num_timesteps}")
    low = 1 / (num_timesteps + tau * (k - 1))
    np.testing.assert_allclose(q, [k * low if t < tau else low for t in range(num_timesteps)], rtol=1e-12)


# `edm` begins as flat as it ends; sigmoid's default still rises by 1.5e-4 at its end
@pytest.mark.parametrize(
    ("schedule", "tau"),
    [("linear", 641), ("linear:num_timesteps=100", 63), ("cosine", 958), ("edm", 806), ("sigmoid", 1000)],
)
def test_speed_finds_the_convergence_area(schedule: str, tau: int) -> None:
    q, cumulative = probabilities("speed", schedule), make(schedule).alphas_cumprod.tolist()
    sigma, num_timesteps = [(1 - value) ** 0.5 for value in cumulative], len(cumulative)
    rises = [(sigma[t + 1] - sigma[t - 1]) / 2 * num_timesteps / 1000 for t in range(1, num_timesteps - 1)]
    rises = [(sigma[1] - sigma[0]) * num_timesteps / 1000, *rises, (sigma[-1] - sigma[-2]) * num_timesteps / 1000]
    steepest = rises.index(max(rises))
    found = next((t for t in range(steepest, num_timesteps) if rises[t] < 1e-4), num_timesteps)
    assert found == tau
    low = 1 / (num_timesteps + 4 * tau)
    np.testing.assert_allclose(q, [5 * low if t < tau else low for t in range(num_timesteps)], rtol=1e-12)


def test_speed_finds_the_same_part_of_the_process_whatever_its_length() -> None:
    shares = []
    for num_timesteps in (100, 1000, 4000):
        q = probabilities("speed", f"linear:num_timesteps={num_timesteps}")
        shares.append(np.argmax(q < q[0]) / num_timesteps)
    for first, second in itertools.pairwise(shares):
        assert first == pytest.approx(second, abs=0.015)


def test_speeds_tau_beyond_the_schedule_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"tau=101 lies beyond the schedule's 100 timesteps\. Choose tau from 1 to 100"
    ):
        probabilities("speed:tau=101", "linear:num_timesteps=100")
