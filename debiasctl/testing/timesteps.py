"""What holds of distributions of timesteps."""

from typing import Any

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import TimestepContext
from debiasctl.boundary import origin_of
from debiasctl.diffusion import bounded_snr, falling_slope, log_of_table, process_of
from debiasctl.testing.laws import Broken, Inapplicable, Laws, Subject, as_stored, described, expect_same, same
from debiasctl.testing.tiny import expect_exact_resume
from debiasctl.training.plain_state import plain_state

laws = Laws()
_SCHEDULES = ("linear", "cosine:num_timesteps=50", "linear:zero_terminal_snr=true", "flow:num_timesteps=100")
_BATCH, _BATCHES = 32, 128


def _context(schedule: str = "linear") -> TimestepContext:
    """What training gives a distribution, for constant weights."""
    process = process_of(registry.create("schedules", schedule))
    snr = bounded_snr(process.snr)
    log_snr = log_of_table(snr)
    middle = (log_snr[1:] + log_snr[:-1]) / 2
    edges = torch.cat([torch.tensor([torch.inf]), middle, torch.tensor([-torch.inf])]).double()
    return TimestepContext(snr, falling_slope(log_snr), torch.ones_like(snr), edges)


def _observed(subject: Subject, steps: int = 20) -> Any:
    """A distribution that has seen a few steps, if it observes."""
    made = subject.make()
    made.probabilities(_context())
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps if made.observes else 0):
        t = torch.randint(0, 1000, (16,), generator=generator)
        made.observe(t, torch.rand(16, generator=generator, dtype=torch.float64) + t / 1000)
    return made


@laws.law("Its probabilities are finite, not negative, and not all 0, on any schedule; they then sum to 1")
def _probabilities(subject: Subject) -> None:
    for schedule in _SCHEDULES:
        made = subject.make()
        found = made.probabilities(_context(schedule))
        total = float(found.sum())
        if not 0 < total < float("inf"):
            raise Broken(f"on the schedule {schedule} they sum to {total:g}")
        normalised = float((found / total).sum())
        if abs(normalised - 1) > 1e-9:
            raise Broken(f"on the schedule {schedule}, divided by their sum, they sum to {normalised:.12g}")


@laws.law("Its probabilities are float64")
def _float64(subject: Subject) -> None:
    made = subject.make()
    found = subject.raw(made, "probabilities")(_context())
    if not isinstance(found, Tensor) or found.dtype != torch.float64:
        raise Broken(f"it returned {described(found)}: compute in the dtype of context.snr")


@laws.law("It leaves the tables that it is given as they are")
def _in_place(subject: Subject) -> None:
    given, kept = _context(), _context()
    subject.raw(subject.make(), "probabilities")(given)
    for name in ("snr", "slope", "weight", "edges"):
        expect_same(getattr(given, name), getattr(kept, name), f"probabilities(context) changed context.{name}")


@laws.law("Its probabilities are the same at every call, and of every object made from the same options")
def _same_twice(subject: Subject) -> None:
    first, context = subject.make(), _context()
    expect_same(first.probabilities(context), first.probabilities(context), "two calls gave different probabilities")
    expect_same(first.probabilities(context), subject.make().probabilities(context), "two with the same options differ")


@laws.law("Importance sampling reaches every timestep that counts")
def _reaches(subject: Subject) -> None:
    if not subject.make().corrected:
        raise Inapplicable("its losses are not corrected: the distribution is part of the objective")
    for schedule in _SCHEDULES:
        made, context = subject.make(), _context(schedule)
        missed = (made.base(context) > 0) & (made.probabilities(context) == 0)
        if bool(missed.any()):
            raise Broken(f"on the schedule {schedule}, t={int(missed.nonzero()[0])} has q=0 and a base above 0")


@laws.law("The uniform numbers that it spreads lie in [0, 1) and stay uniform")
def _spread(subject: Subject) -> None:
    made, generator = subject.make(), torch.Generator().manual_seed(0)
    positions, found = torch.arange(_BATCH), []
    for _ in range(_BATCHES):
        draws, shared = (torch.rand(size, generator=generator, dtype=torch.float64) for size in (_BATCH, 1))
        found.append(made.spread(draws, shared[0], positions, _BATCH))
    values = torch.cat(found).sort().values
    apart = float((values - torch.linspace(0, 1, len(values), dtype=torch.float64)).abs().max())
    if apart > 0.12:
        raise Broken(f"over {_BATCHES} batches, the share of numbers below some u differs from u by {apart:.2g}")


@laws.law("The number of an image depends on its own draw and position, not on which others are with it")
def _part(subject: Subject) -> None:
    made, generator = subject.make(), torch.Generator().manual_seed(0)
    draws, shared = (torch.rand(size, generator=generator, dtype=torch.float64) for size in (_BATCH, 1))
    positions = torch.arange(_BATCH)
    whole = made.spread(draws.clone(), shared[0], positions, _BATCH)
    part = made.spread(draws[8:16].clone(), shared[0], positions[8:16], _BATCH)
    expect_same(part, whole[8:16], "the numbers of positions 8 to 15, asked for alone as another process does")


@laws.law("A distribution that does not say that it varies stays the same")
def _varies(subject: Subject) -> None:
    made = _observed(subject)
    if made.varies:
        return
    expect_same(
        made.probabilities(_context()),
        subject.make().probabilities(_context()),
        "varies is False, and its probabilities changed after 20 steps",
    )


@laws.law("Its state can be stored, and restores it")
def _state(subject: Subject) -> None:
    made = _observed(subject)
    if not made.observes:
        raise Inapplicable("it observes nothing, and so has no state")
    again = subject.make()
    again.probabilities(_context())
    again.load_state_dict(as_stored(plain_state(made.state_dict(), origin_of(made))))
    if not same(plain_state(again.state_dict(), None), plain_state(made.state_dict(), None)):
        raise Broken("after load_state_dict, state_dict returns something else")
    for step in range(3):
        expect_same(
            again.probabilities(_context()),
            made.probabilities(_context()),
            f"{step} steps after load_state_dict, its probabilities differ from those of the one that was stored",
        )
        t = torch.arange(16) * 60
        for one in (made, again):
            one.observe(t, t.double() / 1000)


@laws.law("A training with it that was killed and is resumed ends in the same bits as one that was not")
def _resumes(subject: Subject) -> None:
    if not subject.make().observes:
        raise Inapplicable("it observes nothing, and so has no state")
    expect_exact_resume({"loss": {"timesteps": subject.reference()}})
