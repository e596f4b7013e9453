import math

import pytest
import torch
from torch.nn import functional

from debiasctl import registry
from debiasctl.api import ImageShape
from debiasctl.builtin.backbones.dit import Attention, Block, DiT, modulate, patchify, position_embedding, unpatchify
from debiasctl.errors import PluginOptionsError, UsageError

TINY = {"hidden_size": 16, "depth": 2, "num_heads": 2}


def build(size: int = 8, *, in_channels: int = 3, out_channels: int = 3, num_classes: int = 0, **options):
    return DiT(DiT.Options(**{**TINY, **options})).build(ImageShape(size, in_channels, out_channels), num_classes)


def randomize(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.2


def inputs(size: int = 8):
    generator = torch.Generator().manual_seed(6)
    return torch.randn(2, 3, size, size, generator=generator), torch.tensor([7.0, 640.5])


def test_parameter_count_is_the_papers() -> None:
    # DiT-S/2 has 32.96 M: these, a 1001st class (for guidance) and its stored positions, 256 tokens of width 384.
    with torch.device("meta"):
        model = registry.create("backbones", "dit:patch_size=2,hidden_size=384,depth=12,num_heads=6").build(
            ImageShape(32, 4, 8), 1000
        )
    d, classes, patch = 384, 1000, 2 * 2 * 4
    block = (3 * d * d + 3 * d) + (d * d + d) + (8 * d * d + 5 * d) + (6 * d * d + 6 * d)
    ends = (patch * d + d) + (2 * d * d + 2 * d) + (d * 2 * patch + 2 * patch)
    expected = 12 * block + ends + (256 * d + d + d * d + d) + classes * d
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == expected
    assert round((count + d + 256 * d) / 1e6, 2) == 32.96


@pytest.mark.parametrize(("preset", "millions"), [("S/2", 33), ("B/2", 130), ("L/2", 458), ("DiT-XL/2", 675)])
def test_presets_are_the_published_networks(preset: str, millions: int) -> None:
    # 2212.09748, Tables 1 and 4, which count the stored positions and the null class
    backbone = registry.create("backbones", f"dit:preset={preset}")
    with torch.device("meta"):
        state = backbone.build(ImageShape(32, 4, 8), 1001).state_dict()
    assert state["pos_embed"].shape == (1, (32 // backbone.options.patch_size) ** 2, backbone.options.hidden_size)
    assert sum(tensor.numel() for tensor in state.values()) / 1e6 == pytest.approx(millions, abs=0.6)


def test_a_preset_is_its_options_which_others_override() -> None:
    options = registry.resolve("backbones", "dit:preset=L/4,depth=3,mlp_ratio=2").stored_options()
    plain = "dit:patch_size=4,hidden_size=1024,depth=3,num_heads=16,mlp_ratio=2,pos_embed=stored"
    assert options == registry.resolve("backbones", plain).stored_options()
    assert "preset" not in options  # two runs of one network have one description
    with pytest.raises(PluginOptionsError, match="preset L/4 has no effect, because every option of it is given"):
        registry.resolve("backbones", {"name": "dit", "options": options | {"preset": "L/4"}})
    with pytest.raises(PluginOptionsError, match=r"preset.*XL/2"):
        registry.resolve("backbones", "dit:preset=H/2")


def test_stored_positions_are_computed_ones_and_no_parameters() -> None:
    stored, computed = build(pos_embed="stored"), build()
    assert set(stored.state_dict()) - set(computed.state_dict()) == {"pos_embed"}
    assert torch.equal(stored.pos_embed, computed.pos_embed)
    assert "pos_embed" not in dict(stored.named_parameters())


@pytest.mark.parametrize(("channels", "size", "patch"), [(1, 8, 2), (3, 12, 3), (4, 8, 8), (2, 6, 1)])
def test_unpatchify_inverts_patchify(channels: int, size: int, patch: int) -> None:
    images = torch.randn(2, channels, size, size)
    tokens = patchify(images, patch)
    assert tokens.shape == (2, (size // patch) ** 2, patch * patch * channels)
    assert torch.equal(unpatchify(tokens, patch), images)


def test_a_token_is_one_patch() -> None:
    images = torch.randn(1, 3, 8, 8)
    corner = images[0, :, 2:4, 6:8]  # second row, fourth column of 4 x 4 patches
    assert torch.equal(patchify(images, 2)[0, 7], corner.permute(1, 2, 0).flatten())


def test_position_embedding_is_its_closed_form() -> None:
    side, dim = 3, 16
    embedding = position_embedding(side, dim)
    for row in range(side):
        for column in range(side):
            expected = []
            for place in (column, row):
                angles = [place / 10000.0 ** (i / (dim // 4)) for i in range(dim // 4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            torch.testing.assert_close(embedding[row * side + column], torch.tensor(expected))


def test_attention_is_the_explicit_formula() -> None:
    attention = Attention(12, 3).double()
    randomize(attention)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    q, k, v = (x @ attention.qkv.weight.T + attention.qkv.bias).split(12, dim=2)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        weight = torch.softmax(q[..., part] @ k[..., part].mT / math.sqrt(4), dim=-1)
        heads.append(weight @ v[..., part])
    expected = torch.cat(heads, dim=2) @ attention.proj.weight.T + attention.proj.bias
    torch.testing.assert_close(attention(x), expected)


def test_block_is_the_identity_at_the_start_and_its_formula_after() -> None:
    block = Block(DiT.Options(**TINY)).double()
    x, condition = torch.randn(2, 5, 16, dtype=torch.float64), torch.randn(2, 16, dtype=torch.float64)
    assert torch.equal(block(x, condition), x)
    randomize(block)
    parts = functional.silu(condition) @ block.adaln[1].weight.T + block.adaln[1].bias
    shift1, scale1, gate1, shift2, scale2, gate2 = parts[:, None].split(16, dim=2)
    normed = functional.layer_norm(x, (16,), eps=1e-6)
    middle = x + gate1 * block.attention(normed * (1 + scale1) + shift1)
    normed = functional.layer_norm(middle, (16,), eps=1e-6)
    expected = middle + gate2 * block.mlp(normed * (1 + scale2) + shift2)
    torch.testing.assert_close(block(x, condition), expected)


def test_modulate_is_per_image() -> None:
    x, shift, scale = torch.ones(2, 3, 4), torch.zeros(2, 4), torch.zeros(2, 4)
    shift[1], scale[1] = 5.0, 2.0
    out = modulate(x, shift, scale)
    assert torch.equal(out[0], x[0])
    assert torch.equal(out[1], x[1] * 3 + 5)


@pytest.mark.parametrize("size", [4, 8, 14, 16, 25, 32])
def test_any_size_builds_and_starts_at_zero(size: int) -> None:
    out = build(size, out_channels=6)(*inputs(size))
    assert out.shape == (2, 6, size, size)
    assert not out.any()


def test_time_labels_places_and_every_parameter_matter() -> None:
    model = build(num_classes=3)
    randomize(model)
    x, t = inputs()
    first = model(x, t, torch.tensor([0, 1]))
    assert not torch.allclose(first, model(x, t + 100, torch.tensor([0, 1])))
    other = model(x, t, torch.tensor([0, 2]))
    torch.testing.assert_close(first[0], other[0])
    assert not torch.allclose(first[1], other[1])
    rolled = model(x.roll(2, dims=3), t, torch.tensor([0, 1])).roll(-2, dims=3)  # the same but for the positions
    assert (first - rolled).abs().max() > 0.01 * first.abs().max()
    first.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_labels_are_given_when_and_only_when_there_are_classes() -> None:
    x, t = inputs()
    with pytest.raises(ValueError, match="conditional on 3 classes"):
        build(num_classes=3)(x, t)
    with pytest.raises(ValueError, match="without classes"):
        build()(x, t, torch.tensor([0, 1]))


def test_dropout_acts_in_training_only() -> None:
    model = build(dropout=0.5)
    randomize(model)
    x, t = inputs()
    assert not torch.equal(model(x, t), model(x, t))
    model.eval()
    assert torch.equal(model(x, t), model(x, t))


def test_same_seed_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(build(num_classes=2).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("size", "patch"), [(1, 1), (4, 2), (8, 2), (16, 2), (28, 2), (29, 1), (32, 2), (64, 4), (256, 16)]
)
def test_patch_size_by_image_size(size: int, patch: int) -> None:
    shape = ImageShape(size, 3, 3)
    resolved = DiT.resolve_options(DiT.Options(), shape)
    assert resolved.patch_size == patch
    assert DiT.resolve_options(resolved, shape) == resolved


def test_patch_size_that_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match=r"patch_size 3 does not divide the image size 8. Allowed: 1, 2, 4, 8"):
        build(patch_size=3)


@pytest.mark.parametrize("options", ["hidden_size=18,num_heads=2", "hidden_size=128,num_heads=3", "depth=0"])
def test_options_that_do_not_fit_are_refused(options: str) -> None:
    with pytest.raises(PluginOptionsError, match="dit"):
        registry.create("backbones", f"dit:{options}")


def test_checkpointing_changes_no_gradient_and_recomputes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, gradients = [], []
    forward = Block.forward
    monkeypatch.setattr(Block, "forward", lambda *given: calls.append(1) or forward(*given))
    for use_checkpoint in (False, True):
        model = build(use_checkpoint=use_checkpoint, dropout=0.5)
        randomize(model)
        torch.manual_seed(8)  # for dropout, which must fall alike when it is recomputed
        model(*inputs()).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert len(calls) == 2 + 2 * 2
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)
