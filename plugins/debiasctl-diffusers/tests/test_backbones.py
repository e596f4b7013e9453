"""The networks are diffusers' own, called with what debiasctl calls networks with."""

import pytest
import torch
from debiasctl_diffusers.dit import DiffusersDiT
from debiasctl_diffusers.dit import config_of as dit_config
from debiasctl_diffusers.unet import DiffusersUNet, config_of
from diffusers import DiTTransformer2DModel, UNet2DModel

from debiasctl.api import ImageShape, UsageError

SMALL = {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
RGB = ImageShape(8, 3, 3)
X, T = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.0, 17.5, 999.0])


def unet(shape: ImageShape = RGB, classes: int = 0, **options):
    torch.manual_seed(0)
    return DiffusersUNet(DiffusersUNet.Options(**{**SMALL, **options})).build(shape, classes).eval()


def dit(shape: ImageShape = RGB, classes: int = 0, **options):
    torch.manual_seed(0)
    given = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, **options}
    made = DiffusersDiT(DiffusersDiT.Options(**given)).build(shape, classes).eval()
    for parameter in made.parameters():  # which are zero in part
        torch.nn.init.normal_(parameter, std=0.1)
    return made


@pytest.mark.parametrize("make", [unet, dit])
def test_it_computes_what_diffusers_class_does(make) -> None:
    network = make(ImageShape(8, 3, 6), 4)
    own = network.unet if make is unet else network.transformer
    assert type(own) is (UNet2DModel if make is unet else DiTTransformer2DModel)
    labels = torch.tensor([0, 1, 3])
    with torch.no_grad():
        found = network(X, T, labels)
        wanted = own(X, timestep=T, class_labels=labels).sample
    assert found.shape == (3, 6, 8, 8)
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("make", [unet, dit])
def test_class_and_noise_level_matter(make) -> None:
    network = make(classes=3)
    with torch.no_grad():
        first = network(X, T, torch.tensor([0, 0, 0]))
        assert not torch.allclose(first, network(X, T, torch.tensor([2, 2, 2])), atol=1e-5)
        assert not torch.allclose(first, network(X, T + 0.5, torch.tensor([0, 0, 0])), atol=1e-6)
        assert not torch.allclose(first, network(X, -T / 500, torch.tensor([0, 0, 0])), atol=1e-5)  # of edm


@pytest.mark.parametrize("make", [unet, dit])
def test_what_it_cannot_take_is_refused(make) -> None:
    for wrong in ((X[:, :1], T), (X, T[:2]), (X, T, torch.tensor([0, 0, 0]))):
        with pytest.raises(ValueError, match=r"x has|noise_level|labels"):
            make()(*wrong)


def test_labels_are_dropped_by_debiasctl_alone() -> None:
    """diffusers' DiT would drop a tenth of them by itself while it trains."""
    network = dit(classes=2).train()
    label = torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        assert all(torch.equal(network(X, T, label), network(X, T, label)) for _ in range(40))


def test_a_dit_gives_zero_before_training() -> None:
    made = DiffusersDiT(DiffusersDiT.Options()).build(ImageShape(8, 3, 3), 0)
    with torch.no_grad():
        assert not made(X, T).any()


@pytest.mark.parametrize("size", [8, 12, 16, 28, 32, 48, 64, 96, 128, 256, 7])
def test_the_defaults_suit_the_size(size: int) -> None:
    shape = ImageShape(size, 1, 1)
    options = DiffusersUNet.resolve_options(DiffusersUNet.Options(), shape)
    levels = len(options.block_out_channels)
    assert len(options.down_block_types) == len(options.up_block_types) == levels
    assert size % 2 ** (levels - 1) == 0
    assert size >> (levels - 1) >= 3
    attended = [size >> level for level, one in enumerate(options.down_block_types) if one == "AttnDownBlock2D"]
    assert len(attended) <= 1
    assert all(side <= 16 for side in attended)
    with torch.device("meta"):
        made = DiffusersUNet(options).build(shape, 11)
        assert made(torch.empty(2, 1, size, size), torch.empty(2), torch.empty(2, dtype=torch.int64)).shape[2] == size


def test_presets_are_the_published_networks() -> None:
    options = DiffusersUNet.resolve_options(DiffusersUNet.Options(preset="ddpm-cifar10-32"), ImageShape(32, 3, 3))
    with torch.device("meta"):
        made = UNet2DModel(**config_of(options, ImageShape(32, 3, 3), 0))
    assert sum(one.numel() for one in made.parameters()) == 35_746_307  # google/ddpm-cifar10-32
    large = DiffusersUNet.resolve_options(DiffusersUNet.Options(preset="ddpm-256"), ImageShape(256, 3, 3))
    with torch.device("meta"):
        made = UNet2DModel(**config_of(large, ImageShape(256, 3, 3), 0))
    assert sum(one.numel() for one in made.parameters()) == 113_673_219  # google/ddpm-celebahq-256
    xl = DiffusersDiT.Options(preset="XL/2")
    assert dit_config(xl, ImageShape(32, 4, 8), 1001)["num_embeds_ada_norm"] == 1000
    assert (xl.num_attention_heads * xl.attention_head_dim, xl.num_layers) == (1152, 28)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_out_channels": [8] * 5}, "can only be halved 3 times"),
        ({"block_out_channels": [8, 10]}, "does not divide the width 10"),
        ({"down_block_types": ["DownBlock2D"]}, "equally many"),
        ({"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]}, "down_block_types"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message) -> None:
    with pytest.raises((UsageError, ValueError), match=message):
        unet(**options)


def test_a_patch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match="does not divide the image size 8"):
        dit(patch_size=3)
