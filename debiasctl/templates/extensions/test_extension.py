"""The extension keeps the contract of its kind, and pulls as its formula states."""

import torch
from debiasctl.api import StepContext
from debiasctl.testing import check_extension
from torch import nn

from my_package.extension import MyExtension


def test_it_keeps_its_contract() -> None:
    check_extension(MyExtension, {"strength": 1.0})


def test_it_pulls_as_its_formula_states() -> None:
    network = nn.Linear(3, 2).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    extension = MyExtension(MyExtension.Options(strength=0.5))
    extension.on_start(StepContext(0, network, optimizer))
    start = network.weight.detach().clone()
    distance = torch.ones(2, 3).double()
    with torch.no_grad():
        network.weight += distance
    network.weight.grad = torch.zeros_like(network.weight)
    extension.after_backward(StepContext(0, network, optimizer))
    optimizer.step()
    torch.testing.assert_close(network.weight.detach(), start + (1 - 0.1 * 0.5) * distance, rtol=1e-12, atol=0)


def test_a_resumed_run_is_pulled_to_the_same_weights() -> None:
    network = nn.Linear(3, 2)
    context = StepContext(0, network, torch.optim.SGD(network.parameters(), lr=0.1))
    options = MyExtension.Options()
    first, second = MyExtension(options), MyExtension(options)
    first.on_start(context)
    nn.init.zeros_(network.weight)
    second.load_state_dict(first.state_dict())
    second.on_start(context)
    assert torch.equal(second.start["weight"], first.start["weight"])
    assert not torch.equal(second.start["weight"], network.weight)
