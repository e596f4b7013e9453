"""The network against its reference in NumPy, its sizes against the published ones, and its options."""

import itertools

import measuring
import numpy as np
import pytest
import reference
import torch
from debiasctl_edm2.backbone import EDM2
from debiasctl_edm2.presets import PRESETS
from measuring import build
from torch import nn

from debiasctl.api import ImageShape, UsageError


def randomized(network: nn.Module) -> nn.Module:
    """Gains that are not 0, so that the embedding and the output count."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                parameter.uniform_(0.3, 0.9)
    return network


def make(shape: ImageShape = measuring.SHAPE, num_classes: int = 10, **options) -> nn.Module:
    torch.manual_seed(0)
    return randomized(EDM2(EDM2.Options(**options)).build(shape, num_classes))


def difference_from_reference(network: nn.Module, x, c_noise, labels, **structure) -> float:
    arrays = {name: value.detach().double().numpy() for name, value in network.state_dict().items()}
    expected = reference.network(arrays, x.numpy(), c_noise.numpy(), None if labels is None else labels.numpy(),
                                 **structure)  # fmt: skip
    with torch.no_grad():
        found = network.double().eval()(x, c_noise, labels)
    assert np.abs(expected).mean() > 0.05
    return np.abs(found.numpy() - expected).max()


def digits(count: int = 3):
    x, c_noise, labels = measuring.inputs(count)
    return x.double(), c_noise.double(), labels


@pytest.mark.parametrize(
    ("options", "structure"),
    [
        ({"channels": 6, "head_channels": 3}, {"num_levels": 2, "num_blocks": 1, "head_channels": 3}),
        (
            {"channels": 4, "channel_mult": (1, 3, 2), "num_blocks": 2, "attention_resolutions": (4,)},
            {"num_levels": 3, "num_blocks": 2, "head_channels": 4},
        ),
    ],
)
def test_the_network_is_its_reference(options: dict, structure: dict) -> None:
    assert difference_from_reference(make(**options), *digits(), **structure) < 1e-11


def test_without_classes_and_in_colour() -> None:
    shape = ImageShape(4, 3, 3)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    network = make(shape, 0, channels=4)
    structure = {"num_levels": 1, "num_blocks": 1, "head_channels": 4}
    assert difference_from_reference(network, x, torch.tensor([0.3, -1.0]).double(), None, **structure) < 1e-11


@pytest.mark.parametrize(
    "wrong",
    [{"residual_balance": 0.31}, {"attention_balance": 0.31}, {"class_balance": 0.49}, {"concat_balance": 0.49}],
)
def test_the_defaults_are_the_papers_balances(wrong: dict) -> None:
    structure = {"num_levels": 2, "num_blocks": 1, "head_channels": 3}
    assert difference_from_reference(make(channels=6, head_channels=3, **wrong), *digits(), **structure) > 1e-4


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("XS", 124.7), ("S", 280.2), ("M", 497.8), ("L", 777.5), ("XL", 1119.3), ("XXL", 1523.2)],
)
def test_the_published_numbers_of_parameters(preset: str, millions: float) -> None:
    """For latents of 64 px and 1000 classes; all but 128 of them, which are those of the loss's u."""
    options = EDM2.Options(preset=preset)
    with torch.device("meta"):
        network = EDM2(options).build(ImageShape(64, 4, 4), 1000)
    assert round(sum(one.numel() for one in network.parameters()) / 1e6, 1) == millions
    assert options.dropout == (0.0 if preset in ("XS", "S") else 0.1)
    resolved = EDM2.resolve_options(options, ImageShape(64, 4, 4))
    assert (resolved.attention_resolutions, resolved.head_channels) == ((16, 8), 64)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 12, 28, 32, 64, 96])
def test_any_size_that_the_levels_divide(size: int) -> None:
    shape = ImageShape(size, 1, 1)
    network = make(shape, 0, channels=4)
    out = network(torch.randn(2, 1, size, size), torch.zeros(2))
    assert out.shape == (2, 1, size, size)
    resolved = EDM2.resolve_options(EDM2.Options(channels=4), shape)
    levels = [size >> level for level in range(len(resolved.channel_mult))]
    assert all(level >= 4 for level in levels[1:])
    assert resolved.attention_resolutions == tuple(one for one in (16, 8) if one in levels)
    assert EDM2.resolve_options(resolved, shape) == resolved


def test_a_preset_is_stored_as_what_it_sets_and_yields_to_what_is_given() -> None:
    stored = EDM2.Options(preset="M", dropout=0.2).model_dump(mode="json")
    assert "preset" not in stored
    assert stored["channels"] == 256
    assert stored["dropout"] == 0.2
    assert EDM2.Options(**stored) == EDM2.Options(preset="M", dropout=0.2)
    with pytest.raises(ValueError, match="has no effect"):
        EDM2.Options(preset="nano", **PRESETS["nano"])
    with pytest.raises(ValueError, match="'XS'"):
        EDM2.Options(preset="XXS")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_mult": (1, 2, 3, 4, 5)}, "can only be halved 3 times. Allowed: at most 4 levels"),
        ({"attention_resolutions": (16,)}, r"no level has that size. Allowed at 8 px with channel_mult 1, 2: 8, 4"),
        ({"channels": 1, "channel_mult": (0.5,)}, "Each needs at least 1"),
        ({"head_channels": 7}, r"head_channels 7 does not divide the widths with attention, 32, 64. .* divisors of 32"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EDM2.resolve_options(EDM2.Options(**options), measuring.SHAPE)


def test_a_learned_variance_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Leave out `model\.learned_variance`"):
        EDM2(EDM2.Options()).build(ImageShape(8, 1, 2), 0)


def test_a_balance_of_no_class_is_refused() -> None:
    backbone = EDM2(EDM2.Options(class_balance=0.3))
    assert backbone.build(measuring.SHAPE, 2).class_balance == 0.3
    with pytest.raises(UsageError, match="class_balance has no effect"):
        backbone.build(measuring.SHAPE, 0)


@pytest.mark.parametrize(("prediction", "level"), list(itertools.product(("edm", "v", "eps", "x0", "flow"), (0, 1))))
def test_the_noise_level_belongs_to_the_prediction(prediction: str, level: int) -> None:
    backbone = EDM2(EDM2.Options(noise_level=("log-sigma", "timestep")[level]))
    if (prediction == "edm") != level:
        backbone.check_prediction(prediction, sigma_data=0.5)
    else:
        with pytest.raises(UsageError, match="noise_level"):
            backbone.check_prediction(prediction, sigma_data=0.5)


def test_timesteps_are_mapped_to_the_range_of_c_noise() -> None:
    network, other = make(channels=4), make(channels=4, noise_level="timestep")
    x, _, labels = measuring.inputs(2)
    ends = torch.tensor([0.002, 80.0]).log() / 4
    torch.testing.assert_close(network(x, ends, labels), other(x, torch.tensor([0.0, 1000.0]), labels), rtol=0,
                               atol=0.05)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 1, 4, 4), torch.zeros(2), torch.zeros(2).long()), "takes"),
        ((torch.zeros(2, 1, 8, 8), torch.zeros(1), torch.zeros(2).long()), "noise_level"),
        ((torch.zeros(2, 1, 8, 8), torch.zeros(2), None), "needs labels"),
        ((torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(1).long()), "labels"),
    ],
)
def test_inputs_of_another_shape_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()(*arguments)


# ---------------------------------------------------------------- how it is computed


def test_its_output_is_zero_before_training() -> None:
    assert not build()(*measuring.inputs(4)).any()


def gradients(network: nn.Module, called: nn.Module | None = None) -> list[torch.Tensor]:
    torch.manual_seed(1)
    (network if called is None else called)(*measuring.inputs(4)).square().sum().backward()
    found = [one.grad for one in network.parameters()]
    assert all(one.any() for one in found)
    return found


def test_recomputed_activations_give_the_same_gradients() -> None:
    """With the same dropout."""
    options = {"channels": 8, "dropout": 0.3}
    again = gradients(make(**options, use_checkpoint=True))
    torch.testing.assert_close(again, gradients(make(**options)), rtol=1e-4, atol=1e-5)


def test_the_layout_changes_nothing() -> None:
    network = make(channels=8)
    assert network.memory_format == torch.channels_last
    assert EDM2(EDM2.Options()).set_memory_format(network, torch.contiguous_format)
    torch.testing.assert_close(gradients(network), gradients(make(channels=8)), rtol=1e-3, atol=1e-4)


def test_it_is_one_graph() -> None:
    network = make(channels=8)
    traced = torch.compile(network, backend="eager", fullgraph=True)  # fails where the graph would break
    torch.testing.assert_close(gradients(network, traced), gradients(make(channels=8)), rtol=1e-3, atol=1e-4)


def test_bf16_is_close_to_fp32() -> None:
    network, arguments = make(channels=16), measuring.inputs(64)
    with torch.no_grad():
        exact = network(*arguments)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = network(*arguments).float()
    assert measuring.magnitude(rounded - exact) < 0.03 * measuring.magnitude(exact)


def test_dropout_is_for_training_alone() -> None:
    network, arguments = make(channels=8, dropout=0.5), measuring.inputs(4)
    assert not torch.equal(network(*arguments), network(*arguments))
    network.eval()
    assert torch.equal(network(*arguments), network(*arguments))


def test_activations_are_clipped() -> None:
    network, arguments = make(channels=8, activation_clip=0.5).eval(), measuring.inputs(4)
    seen = []
    for block in [*network.encoder, *network.decoder]:
        block.register_forward_hook(lambda _, __, out: seen.append(out.abs().max().item()))
    with torch.no_grad():
        network(*arguments)
    assert max(seen) == 0.5
