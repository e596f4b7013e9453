import pytest
import torch
from tiny import make_spec

from debiasctl.errors import UsageError
from debiasctl.models.build import build_network


def test_weights_are_drawn_from_the_seed_and_leave_the_global_generator_alone() -> None:
    def weights(seed: int):
        network = build_network(make_spec(training__seed=seed), image_size=8, channels=1, num_classes=10)
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = weights(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(10)
    assert torch.equal(weights(1), first)
    assert not torch.equal(weights(2), first)


def test_a_network_of_absurd_size_in_a_stored_spec_is_refused_before_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("debiasctl.models.build.derived_seed", lambda *_: pytest.fail("weights are drawn"))
    spec = make_spec(model__backbone="dit:hidden_size=16,depth=1000000000,num_heads=2")
    with pytest.raises(UsageError, match="the network has more than 5,000 tensors"):
        build_network(spec, image_size=8, channels=1, num_classes=10)
    monkeypatch.setattr("debiasctl.models.build.total_memory", lambda device: 10_000)
    with pytest.raises(UsageError, match=r"parameters, which take .*; this machine has 0.0 MB. Choose a smaller one"):
        build_network(make_spec(), image_size=8, channels=1, num_classes=10)
