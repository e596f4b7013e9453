"""Timesteps for a training loop of one's own: drawn as in training, with the correction that training applies."""

from typing import Any

import diffusers
import pytest
import torch

import debiasctl
from debiasctl import registry
from debiasctl.api import UsageError
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import process_of

N = 4096


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["uniform", "logit-normal:mean=1", "lognormal", "stratified", "speed"])
def test_they_are_drawn_as_in_training(name: str) -> None:
    process = process_of(registry.create("schedules", "cosine"))
    objective = Objective(
        Parameterization("eps", process), registry.create("weightings", "debiased"), registry.create("timesteps", name)
    )
    sampler = debiasctl.timesteps(name).for_schedule("cosine")
    q = objective.tables().probability
    torch.testing.assert_close(sampler.probabilities(), q)
    drawn = sampler.sample(N, generator=generator())
    assert drawn.t.dtype == torch.int64
    assert bool((drawn.correction == 1).all())
    assert torch.equal(drawn.snr, process.snr[drawn.t].float())
    mean, spread = float((q * torch.arange(1000)).sum()), 1000 / N**0.5
    assert abs(float(drawn.t.double().mean()) - mean) < 2 * spread
    assert torch.equal(drawn.t, sampler.sample(N, generator=generator()).t)
    assert not torch.equal(drawn.t, sampler.sample(N, generator=generator(1)).t)


def test_without_a_schedule_it_is_linear() -> None:
    q = debiasctl.timesteps("lognormal")
    assert torch.equal(
        q.sample(9, generator=generator()).t, q.for_schedule("linear").sample(9, generator=generator()).t
    )
    torch.manual_seed(3)
    first = q.sample(9).t
    torch.manual_seed(3)
    assert torch.equal(q.sample(9).t, first)


def test_importance_sampling_is_corrected() -> None:
    """Under q and with base/q, the mean of a weighted error is that of the plain mean over t."""
    scheduler = diffusers.DDPMScheduler()
    w = debiasctl.weighting("debiased")
    sampler = debiasctl.timesteps("importance").for_scheduler(scheduler, weighting=w)
    weigh = w.for_scheduler(scheduler)
    torch.testing.assert_close(sampler.probabilities(), weigh.table() / weigh.table().sum())
    drawn = sampler.sample(N, generator=generator())
    product = drawn.correction * weigh(drawn.t)
    torch.testing.assert_close(product, weigh.table().mean().float().expand(N), rtol=1e-5, atol=0)
    with pytest.raises(UsageError, match=r"draws t in proportion to the weight. Give `weighting`"):
        debiasctl.timesteps("importance").for_schedule("linear")


def test_a_flow_scheduler_gets_its_own_timesteps() -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    sampler = debiasctl.timesteps("logit-normal").for_scheduler(scheduler)
    drawn = sampler.sample(64, generator=generator())
    assert drawn.t.dtype == torch.float32
    assert bool(torch.isin(drawn.t, scheduler.timesteps).all())
    torch.testing.assert_close(drawn.s, drawn.t / 1000, rtol=1e-5, atol=0)
    torch.testing.assert_close(drawn.sigma, drawn.s / (1 - drawn.s), rtol=1e-3, atol=0)
    scheduler.set_timesteps(10)
    assert len(sampler.probabilities()) == 10
    assert bool(torch.isin(sampler.sample(64).t, scheduler.timesteps).all())


def test_a_continuous_schedule_is_drawn_between_timesteps() -> None:
    drawn = debiasctl.timesteps("lognormal").for_schedule("edm").sample(N, generator=generator())
    assert drawn.t.is_floating_point()
    log_sigma = drawn.sigma.double().log()
    assert abs(float(log_sigma.mean()) + 1.2) < 5 * 1.2 / N**0.5
    assert abs(float(log_sigma.std()) - 1.2) < 0.1


def test_what_adapts_is_told_the_losses() -> None:
    sampler = debiasctl.timesteps("loss-second-moment:history=1").for_schedule("cosine:num_timesteps=4")
    assert sampler.probabilities().tolist() == [0.25] * 4
    sampler.observe(torch.arange(4), torch.tensor([1.0, 1.0, 1.0, 9.0]))
    q = sampler.probabilities()
    assert q.argmax() == 3
    drawn = sampler.sample(64, generator=generator())
    torch.testing.assert_close(drawn.correction, (0.25 / q[drawn.t]).float())
    with pytest.raises(UsageError, match=r"'uniform' of debiasctl .* does not adapt to losses"):
        debiasctl.timesteps("uniform").for_schedule("linear").observe(torch.arange(4), torch.ones(4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: debiasctl.timesteps("logitnormal"), "unknown timestep distribution 'logitnormal'. Did you mean"),
        (lambda: debiasctl.timesteps(3), "by their reference, such as 'logit-normal'"),  # type: ignore[arg-type]
        (lambda: debiasctl.timesteps("uniform").sample(-1), "`n=-1` must be a whole number"),
        (lambda: debiasctl.timesteps("uniform").sample(2.0), "`n=2.0` must be a whole number"),  # type: ignore[arg-type]
        (lambda: debiasctl.timesteps("uniform").for_schedule("lienar"), "unknown schedule 'lienar'"),
        (lambda: debiasctl.timesteps("uniform").for_scheduler(object()), "object is no scheduler"),
        (
            lambda: debiasctl.timesteps("importance").for_schedule("linear", weighting="interpolate:p_end=1").sample(2),
            "changes during training. Give `progress`",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
