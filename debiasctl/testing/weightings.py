"""What holds of weightings."""

from typing import Any, get_args

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Learned, Prediction, Schedule, WeightingContext
from debiasctl.diffusion import SNR_MAX, SNR_MIN, bounded_snr, process_of, weight_in
from debiasctl.testing.laws import Broken, Inapplicable, Laws, Subject, described, expect_close, expect_same
from debiasctl.testing.tiny import expect_exact_resume

laws = Laws()
_LEVELS = torch.logspace(-20, 20, 401, dtype=torch.float64).clamp(SNR_MIN, SNR_MAX)


def _context(num_timesteps: int, progress: float = 0.0) -> WeightingContext:
    schedule: Schedule = registry.create("schedules", f"cosine:num_timesteps={num_timesteps}")
    return WeightingContext(bounded_snr(process_of(schedule).snr), progress)


def _settled(subject: Subject) -> Any:
    """The weighting as training uses it: for a schedule, at the start."""
    return subject.make().at(_context(1000))


@laws.law(f"Its weights are finite and not negative at every SNR from {SNR_MIN:g} to {SNR_MAX:g}, in any unit")
def _finite(subject: Subject) -> None:
    weighting = _settled(subject)
    weighting(_LEVELS)
    for prediction in get_args(Prediction):
        weight_in(weighting, prediction, snr=_LEVELS[100:301])


@laws.law("Its weights are float64, with the shape of the SNRs")
def _float64(subject: Subject) -> None:
    weighting = _settled(subject)
    plain = type(weighting).__mro__[1] if type(weighting) is subject.plugin else type(weighting)
    for shape in ((), (1,), (0,), (7,), (2, 3)):
        snr = torch.ones(shape, dtype=torch.float64)
        weighting(snr)
        found = plain.__call__(weighting, snr.clone())
        if isinstance(found, Tensor) and (found.dtype != torch.float64 or found.shape != snr.shape):
            raise Broken(f"for snr float64 {list(shape)} it returned {described(found)}: compute in snr's dtype")


@laws.law("It leaves the SNRs that it is given as they are")
def _in_place(subject: Subject) -> None:
    weighting, snr = _settled(subject), _LEVELS.clone()
    weighting(snr)
    context = _context(50)
    before = context.snr.clone()
    subject.make().at(context)(before.clone())
    expect_same(context.snr, before, "the snr of the context was changed by at(context)")


@laws.law("Its weights are the same at every call, and of every object made from the same options")
def _same_twice(subject: Subject) -> None:
    first = _settled(subject)
    expect_same(first(_LEVELS), first(_LEVELS), "two calls with the same SNRs gave different weights")
    expect_same(first(_LEVELS), _settled(subject)(_LEVELS), "two weightings with the same options differ")


@laws.law("The weight of an SNR does not depend on the other SNRs that are given with it")
def _one_by_one(subject: Subject) -> None:
    weighting = _settled(subject)
    together = weighting(_LEVELS)
    alone = torch.cat([weighting(_LEVELS[number : number + 1]) for number in range(0, 401, 40)])
    expect_close(alone, together[::40], "given one by one, SNRs have other weights", tolerance=1e-9)
    expect_close(weighting(_LEVELS.flip(0)).flip(0), together, "in reverse order they have others", tolerance=1e-9)


@laws.law("Some weight is above 0 on the schedule that it is settled for, of any number of timesteps")
def _not_zero(subject: Subject) -> None:
    for size in (10, 1000):
        for progress in (0.0, 0.5, 1.0):
            context = _context(size, progress)
            if not bool((weight_in(subject.make().at(context), "eps", snr=context.snr) > 0).any()):
                raise Broken(f"all weights are 0 on the cosine schedule with {size} timesteps, at progress {progress}")


@laws.law("A weighting that does not say that it varies is the same throughout a training")
def _varies(subject: Subject) -> None:
    weighting = subject.make()
    if weighting.varies:
        return
    start, end = (weighting.at(_context(100, progress))(_LEVELS) for progress in (0.0, 1.0))
    expect_same(start, end, "varies is False, and at(context) gave others at progress 1 than at progress 0")


@laws.law("A learned weighting's u is finite, one for each level, and learns")
def _learned(subject: Subject) -> None:
    module = _module(subject).module
    log_snr = _LEVELS.log().float()
    u = module(log_snr)
    if not isinstance(u, Tensor) or u.shape != log_snr.shape:
        raise Broken(f"for log SNR float32 {list(log_snr.shape)} its module returned {described(u)}")
    if not bool(u.isfinite().all()):
        wrong = log_snr[~u.isfinite()][0].item()
        raise Broken(f"u is not finite at log SNR {wrong:.4g}")
    if u.requires_grad:
        torch.autograd.backward(u.square().sum())
    idle = [name for name, one in module.named_parameters() if one.requires_grad and one.grad is None]
    if idle or not u.requires_grad:
        raise Broken(f"no gradient reaches {', '.join(idle) or 'its parameters'}")


@laws.law("A learned weighting begins from torch's seeded generator, and its state restores it")
def _learned_state(subject: Subject) -> None:
    first = _module(subject)
    again = _module(subject)
    for name, tensor in first.module.state_dict().items():
        expect_same(tensor, again.module.state_dict()[name], f"with the same seed, {name} began differently")
    torch.manual_seed(1)
    other = _module(subject, seed=1)
    with torch.no_grad():
        for parameter in first.module.parameters():
            parameter.add_(0.1)
    other.module.load_state_dict(first.module.state_dict())
    log_snr = _LEVELS.log().float()
    expect_same(other.module(log_snr), first.module(log_snr), "after load_state_dict of another's state, u differs")


@laws.law("A training with it that was killed and is resumed ends in the same bits as one that was not")
def _resumes(subject: Subject) -> None:
    weighting = subject.make()
    if not weighting.varies and not weighting.is_learned:
        return
    expect_exact_resume({"loss": {"weighting": subject.reference()}})


def _module(subject: Subject, *, seed: int = 0) -> Learned:
    torch.manual_seed(seed)
    found: Learned | None = subject.make().learned() if subject.make().is_learned else None
    if found is None:
        raise Inapplicable("it is not learned")
    return found
