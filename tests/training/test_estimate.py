import dataclasses

import pytest
import torch
from tiny import BACKBONE, LOCATION, digits, make_spec, set_up_tiny

from debiasctl.specs.resolve import resolve_spec
from debiasctl.training.estimate import estimate

UNET = "unet:channels=32,channel_mult=[1,2],num_res_blocks=1,attention_resolutions=[4]"


@pytest.mark.parametrize("backbone", [BACKBONE, UNET])
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("learned_variance", [True, False])
def test_counts_are_those_of_what_is_trained(backbone: str, conditional: bool, learned_variance: bool) -> None:
    spec = make_spec(model__backbone=backbone, model__conditional=conditional, model__learned_variance=learned_variance)
    found = estimate(spec, digits().info)
    network = set_up_tiny(spec).network
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters())
    assert (found.steps, found.images) == (6, 48)
    assert found.epochs == pytest.approx(48 / 1501)
    assert found.memory["weights"] == found.memory["gradients"] == found.memory["ema"] == 4 * found.parameters
    assert found.memory["optimizer"] == 8 * found.parameters  # two moments
    assert found.memory["data"] == 1797 * 64
    assert found.total == sum(found.memory.values())


def test_a_value_of_a_float32_data_set_takes_four_bytes() -> None:
    info = dataclasses.replace(digits().info, value_type="float32")
    images = torch.zeros(1797, 1, 8, 8, dtype=torch.float32)
    assert estimate(make_spec(), info).memory["data"] == images.nbytes


def test_a_learned_variance_doubles_the_output() -> None:
    plain, learned = make_spec(), make_spec(model__learned_variance=True)
    outputs = [set_up_tiny(spec).network(torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.tensor([0, 1]))
               for spec in (plain, learned)]  # fmt: skip
    assert [output.shape for output in outputs] == [(2, 1, 8, 8), (2, 2, 8, 8)]
    found = [estimate(spec, digits().info).parameters for spec in (plain, learned)]
    assert found[1] - found[0] == (16 + 1) * 2 * 2  # one more channel of each 2x2 patch from 16 features and a bias


@pytest.mark.parametrize("backbone", [BACKBONE, UNET])
def test_activations_grow_linearly_with_the_batch(backbone: str) -> None:
    def activations(batch_size: int) -> int:
        spec = make_spec(model__backbone=backbone, training__batch_size=batch_size)
        return estimate(spec, digits().info).memory["activations"]

    first = activations(16)
    assert first > 16 * 64 * 4  # more than the images themselves
    assert activations(32) - first == pytest.approx(first, rel=0.02)
    assert activations(64) - activations(48) == activations(32) - first


def test_activations_are_what_autograd_keeps() -> None:
    """By another way: the saved tensors of a real forward, each storage once, parameters apart."""
    spec = make_spec(training__batch_size=4)
    network = set_up_tiny(spec).network
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(torch.zeros(4, 1, 8, 8), torch.zeros(4), torch.zeros(4, dtype=torch.int64))
    real = sum(one.untyped_storage().nbytes() for pointer, one in kept.items() if pointer not in parameters)
    assert estimate(spec, digits().info).memory["activations"] == pytest.approx(real, rel=0.1)


def test_it_takes_no_memory_of_its_own() -> None:
    spec, info = resolve_spec(
        [{"data": {"dataset": "digits"}, "model": {"backbone": "dit:hidden_size=4096,depth=40,num_heads=32"}}], LOCATION
    )
    assert estimate(spec, info).parameters > 8e9
