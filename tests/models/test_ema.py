from pathlib import Path

import pytest
import torch
from tiny import make_spec, set_up_tiny
from torch import nn

from debiasctl.errors import SpecError
from debiasctl.models.ema import EMA, whole_state
from debiasctl.models.power_profiles import gamma_of
from debiasctl.specs.resolve import validate_spec
from debiasctl.specs.sections import DecayEMA, EMASection, HalfLifeEMA, PowerEMA
from debiasctl.training.step import train_step

WEIGHTS = [3.0, -1.0, 4.0, 1.0, -5.0]  # the first is the one at the start


def followed(spec: EMASection, weights: list[float] = WEIGHTS) -> EMA:
    network = nn.Linear(1, 1, bias=False).double()
    with torch.no_grad():
        network.weight.fill_(weights[0])
        ema = EMA(network, spec, batch_size=10)
        for step, weight in enumerate(weights[1:], start=1):
            network.weight.fill_(weight)
            ema.update(network, step)
    return ema


def averaged(spec: EMASection, weights: list[float] = WEIGHTS) -> float:
    return followed(spec, weights).network.weight.item()


def test_without_warm_up_it_is_the_geometric_average() -> None:
    d = 0.9
    expected = d**4 * WEIGHTS[0] + (1 - d) * sum(d ** (4 - k) * WEIGHTS[k] for k in range(1, 5))
    assert averaged(DecayEMA(decay=d, warmup=False)) == pytest.approx(expected, rel=1e-12)


def test_warm_up_starts_with_short_averages() -> None:
    decays = [2 / 11, 3 / 12, 0.3, 0.3]  # (1 + k)/(10 + k), at most 0.3
    expected = WEIGHTS[0]
    for decay, weight in zip(decays, WEIGHTS[1:], strict=True):
        expected = decay * expected + (1 - decay) * weight
    assert averaged(DecayEMA(decay=0.3, warmup=True)) == pytest.approx(expected, rel=1e-12)


def test_buffers_are_copied_and_the_average_is_not_trained() -> None:
    network = nn.BatchNorm1d(3)
    ema = EMA(network, DecayEMA(decay=0.9))
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


@pytest.mark.parametrize("ratio", [None, 0.05, 2.0])
def test_a_half_life_counts_images(ratio: float | None) -> None:
    """Brute force: what each step's weights count after N steps, from the half-life at every later one."""
    weights = [float(number) for number in torch.randn(60, generator=torch.Generator().manual_seed(0)).double()]
    spec = HalfLifeEMA(half_life_images=130, rampup_ratio=ratio)
    kept = [1.0]
    for step in range(1, len(weights)):
        half_life = 130 if ratio is None else min(130, ratio * 10 * step)
        kept.append(2 ** (-10 / half_life))
    counts = [(1 - kept[k] if k else 1.0) * torch.tensor([1.0, *kept[k + 1 :]]).double().prod() for k in range(60)]
    assert sum(counts) == pytest.approx(1, rel=1e-6)
    expected = sum(float(count) * weight for count, weight in zip(counts, weights, strict=True))
    assert averaged(spec, weights) == pytest.approx(expected, rel=1e-6)
    if ratio is None:
        one, none = averaged(spec, [1.0] + 13 * [0.0]), averaged(spec, [1.0] + 26 * [0.0])
        assert (one, none) == (pytest.approx(0.5, rel=1e-12), pytest.approx(0.25, rel=1e-12))


def test_a_half_life_needs_the_batch() -> None:
    with pytest.raises(ValueError, match="batch"):
        EMA(nn.Linear(1, 1), HalfLifeEMA())


def test_the_power_functions_weights_are_their_profiles() -> None:
    """Step k counts (k/t)^(gamma + 1) - ((k - 1)/t)^(gamma + 1), and the weights at the start nothing."""
    weights = [1e9, *torch.randn(200, generator=torch.Generator().manual_seed(0)).double().tolist()]
    ema = followed(PowerEMA(lengths=(0.05, 0.2, 0.1)), weights)
    found = {0.05: ema.network, 0.2: ema.averages["0.2"], 0.1: ema.averages["0.1"]}
    for length, average in found.items():
        edges = (torch.arange(201, dtype=torch.float64) / 200) ** (gamma_of(length) + 1)
        expected = float((edges.diff() * torch.tensor(weights[1:], dtype=torch.float64)).sum())
        assert average.weight.item() == pytest.approx(expected, rel=1e-10)


def test_further_averages_come_back_from_their_state() -> None:
    spec = PowerEMA(lengths=(0.05, 0.1, 0.2))
    first, second = followed(spec), followed(spec, [7.0, 7.0])
    assert list(first.state_dict()) == ["0.1", "0.2"]
    second.load_state_dict(first.state_dict())
    for name, average in first.averages.items():
        assert torch.equal(second.averages[name].weight, average.weight)
    assert second.network.weight.item() == 7
    with pytest.raises(ValueError, match="lengths"):
        second.load_state_dict({"0.1": {"weight": torch.zeros(1, 1)}})
    assert followed(DecayEMA()).state_dict() == {}


def test_buffers_reach_every_average() -> None:
    network = nn.BatchNorm1d(3)
    ema = EMA(network, PowerEMA())
    network(torch.tensor([[1.0, 2, 3], [3, 6, 9]]))
    ema.update(network, 1)
    assert torch.equal(ema.averages["0.1"].running_mean, network.running_mean)
    assert not any(parameter.requires_grad for parameter in ema.averages["0.1"].parameters())


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"kind": "power", "lengths": [0.05, 0.05]}, "names a length twice"),
        ({"kind": "power", "lengths": []}, "ema.lengths"),
        ({"kind": "power", "lengths": [0.3]}, "less than or equal to 0.28"),
        ({"kind": "power", "lengths": [0.05, 0.1234567]}, "at most 6 decimals"),
        ({"kind": "half-life", "rampup_ratio": 0}, "rampup_ratio"),
        ({"kind": "mean"}, "ema.kind"),
    ],
)
def test_what_a_spec_may_not_say(settings: dict, message: str) -> None:
    with pytest.raises(SpecError) as error:
        validate_spec({"data": {"dataset": "digits"}, "ema": settings})
    assert message in str(error.value)


def test_a_spec_from_before_there_were_kinds() -> None:
    spec = validate_spec({"data": {"dataset": "digits"}, "ema": {"decay": 0.99, "warmup": False}}).ema
    assert (spec.kind, spec.decay, spec.warmup) == ("decay", 0.99, False)


def test_averages_of_a_sharded_network_with_buffers_restart(tmp_path: Path) -> None:
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        network = nn.BatchNorm1d(3)
        ema = EMA(network, PowerEMA())
        for module in (network, ema.network, *ema.averages.values()):
            fully_shard(module, mesh=mesh)
        with torch.no_grad():
            for value in (*network.parameters(), *network.buffers()):
                value.fill_(7)
        ema.restart(network)
        for average in (ema.network, *ema.averages.values()):
            assert all(bool((tensor == 7).all()) for tensor in whole_state(average).values())
    finally:
        torch.distributed.destroy_process_group()
