"""fp16's loss scaling, with torch's scaler on the CPU: network and learned weighting step together, or neither does."""

import copy
import math

import pytest
import torch
from tiny import digits, make_spec, set_up_tiny
from torch import Tensor, nn

from debiasctl.compute.device import make_accelerator
from debiasctl.training.setup import set_up
from debiasctl.training.step import train_step
from debiasctl.training.training import Training

SPEC = make_spec(loss__weighting="uncertainty", optimizer__clip_grad_norm=0.1)


@pytest.fixture
def plain() -> Training:
    return set_up_tiny(SPEC)


@pytest.fixture
def scaled(plain: Training, monkeypatch: pytest.MonkeyPatch) -> Training:
    """A training whose loss is scaled as under fp16, and computed in fp32."""
    accelerator = make_accelerator("cpu")
    monkeypatch.setattr(accelerator, "scaler", torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3))
    monkeypatch.setattr(accelerator.state, "_mixed_precision", "fp16")
    training = set_up(SPEC, digits(), accelerator=accelerator)
    monkeypatch.setattr(accelerator, "native_amp", True)  # later, so that nothing is autocast
    return training


def values(module: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in module.parameters()]


def equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def test_scaling_changes_no_step(plain: Training, scaled: Training) -> None:
    """The scale is a power of 2, and so it and its removal are exact; it grows after three steps."""
    assert scaled.learned is not None
    assert plain.learned is not None
    for step in range(4):
        assert torch.equal(train_step(scaled, step).grad_norm, train_step(plain, step).grad_norm)
    assert scaled.accelerator.scaler.get_scale() == 2.0**11
    assert equal(values(scaled.network), values(plain.network))
    assert equal(values(scaled.learned.module), values(plain.learned.module))


@pytest.mark.parametrize("where", ["network", "weighting"])
def test_an_overflow_in_one_skips_both_once(scaled: Training, where: str) -> None:
    assert scaled.learned is not None
    train_step(scaled, 0)
    modules = (scaled.network, scaled.learned.module)
    before = [values(module) for module in modules]
    moments = [copy.deepcopy(one.state_dict()["state"]) for one in scaled.optimizers]
    struck = list((scaled.network if where == "network" else scaled.learned.module).parameters())[-1]
    average = values(scaled.ema.network)
    hook = struck.register_hook(lambda gradient: gradient * math.inf)
    result = train_step(scaled, 1)
    hook.remove()
    assert not math.isfinite(float(result.grad_norm))
    assert scaled.accelerator.scaler.get_scale() == 2.0**9  # halved once
    assert all(equal(one, values(module)) for one, module in zip(before, modules, strict=True))
    for state, optimizer in zip(moments, scaled.optimizers, strict=True):
        after = optimizer.state_dict()["state"]
        assert all(torch.equal(state[i][key], after[i][key]) for i in state for key in state[i])
    assert not equal(average, values(scaled.ema.network))  # in a step in which the weights stood still
    assert [one.step for one in scaled.guard.settled()] == [0, 1]
    train_step(scaled, 2)
    assert not any(equal(one, values(module)) for one, module in zip(before, modules, strict=True))
