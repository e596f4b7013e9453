import torch
from tiny import make_spec

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
