import pytest
import torch
from tiny import make_spec, set_up_tiny
from torch import nn

from debiasctl.specs import EMASection
from debiasctl.training.ema import EMA
from debiasctl.training.step import train_step

WEIGHTS = [3.0, -1.0, 4.0, 1.0, -5.0]  # the first is the one at the start


def averaged(spec: EMASection) -> float:
    network = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        network.weight.fill_(WEIGHTS[0])
        ema = EMA(network, spec)
        for step, weight in enumerate(WEIGHTS[1:], start=1):
            network.weight.fill_(weight)
            ema.update(network, step)
    return ema.network.weight.item()


def test_without_warm_up_it_is_the_geometric_average() -> None:
    d = 0.9
    expected = d**4 * WEIGHTS[0] + (1 - d) * sum(d ** (4 - k) * WEIGHTS[k] for k in range(1, 5))
    assert averaged(EMASection(decay=d, warmup=False)) == pytest.approx(expected, rel=1e-12)


def test_warm_up_starts_with_short_averages() -> None:
    decays = [2 / 11, 3 / 12, 0.3, 0.3]  # (1 + k)/(10 + k), at most 0.3
    expected = WEIGHTS[0]
    for decay, weight in zip(decays, WEIGHTS[1:], strict=True):
        expected = decay * expected + (1 - decay) * weight
    assert averaged(EMASection(decay=0.3, warmup=True)) == pytest.approx(expected, rel=1e-12)


def test_buffers_are_copied_and_the_average_is_not_trained() -> None:
    network = nn.BatchNorm1d(3)
    ema = EMA(network, EMASection(decay=0.9))
    network(torch.tensor([[1.0, 2, 3], [3, 6, 9]]))
    assert ema.network.num_batches_tracked == 0
    ema.update(network, 1)
    assert torch.equal(ema.network.running_mean, network.running_mean)
    assert ema.network.running_mean.abs().sum() > 0
    assert ema.network.num_batches_tracked == 1
    assert not ema.network.training
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())


def test_training_averages_the_weights_after_each_step() -> None:
    training = set_up_tiny(make_spec(ema__decay=0.2, ema__warmup=True, optimizer__lr=0.1))
    expected = [parameter.detach().double() for parameter in training.network.parameters()]
    for step in range(4):
        train_step(training, step)
        decay = min(0.2, (2 + step) / (11 + step))
        expected = [
            decay * average + (1 - decay) * weight.detach().double()
            for average, weight in zip(expected, training.network.parameters(), strict=True)
        ]
    for average, value in zip(training.ema.network.parameters(), expected, strict=True):
        torch.testing.assert_close(average.double(), value, rtol=1e-5, atol=1e-6)
