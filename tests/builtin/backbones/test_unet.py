import pytest
import torch
from pydantic import ValidationError

from debiasctl import registry
from debiasctl.api import ImageShape
from debiasctl.builtin.backbones.unet import UNet, default_channel_mult
from debiasctl.builtin.backbones.unet_presets import PRESETS
from debiasctl.errors import PluginOptionsError, UsageError

SMALL = {"channels": 32, "channel_mult": (1, 2), "num_head_channels": 16, "attention_resolutions": (4,)}


def build(size: int = 8, *, in_channels: int = 3, out_channels: int = 3, num_classes: int = 0, **options):
    return UNet(UNet.Options(**options)).build(ImageShape(size, in_channels, out_channels), num_classes)


def randomize(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        scale = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * scale


def inputs(size: int = 8, *, n: int = 2, channels: int = 3, dtype: torch.dtype = torch.float32):
    generator = torch.Generator().manual_seed(6)
    return torch.randn(n, channels, size, size, generator=generator, dtype=dtype), torch.tensor([7.0, 640.5][:n])


# ------------------------------------------------------------- the published models


@pytest.mark.parametrize(
    ("size", "num_classes", "channel_mult", "count"),
    [(256, 0, (1, 1, 2, 2, 4, 4), 93_563_910), (32, 10, (1, 2, 2, 2), 30_473_990)],
)
def test_defaults_are_the_papers_models(size: int, num_classes: int, channel_mult: tuple, count: int) -> None:
    shape = ImageShape(size, 3, 6)
    assert UNet.resolve_options(UNet.Options(), shape).channel_mult == channel_mult
    with torch.device("meta"):
        model = registry.create("backbones", "unet").build(shape, num_classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def res_block(name: str, width_in: int, width_out: int, *, emb: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        f"{name}.in_layers.0.weight": (width_in,),
        f"{name}.in_layers.2.weight": (width_out, width_in, 3, 3),
        f"{name}.emb_layers.1.weight": (2 * width_out, emb),
        f"{name}.out_layers.0.weight": (width_out,),
        f"{name}.out_layers.3.weight": (width_out, width_out, 3, 3),
    }
    if width_in != width_out:
        shapes[f"{name}.skip_connection.weight"] = (width_out, width_in, 1, 1)
    return shapes


def attention(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.norm.weight": (width,),
        f"{name}.qkv.weight": (3 * width, width, 1),
        f"{name}.proj_out.weight": (width, width, 1),
    }


@pytest.mark.parametrize(("updown", "conv"), [(True, True), (False, True), (False, False)])
def test_state_dict_has_the_names_and_shapes_of_guided_diffusion(updown: bool, conv: bool) -> None:
    model = build(num_classes=5, out_channels=6, **SMALL, resblock_updown=updown, conv_resample=conv)
    expected: dict[str, tuple[int, ...]] = {
        "time_embed.0.weight": (128, 32),
        "time_embed.2.weight": (128, 128),
        "input_blocks.0.0.weight": (32, 3, 3, 3),
        **res_block("input_blocks.1.0", 32, 32, emb=128),
        **res_block("input_blocks.3.0", 32, 64, emb=128),
        **attention("input_blocks.3.1", 64),
        **res_block("middle_block.0", 64, 64, emb=128),
        **attention("middle_block.1", 64),
        **res_block("middle_block.2", 64, 64, emb=128),
        **res_block("output_blocks.0.0", 128, 64, emb=128),
        **attention("output_blocks.0.1", 64),
        **res_block("output_blocks.1.0", 96, 64, emb=128),
        **attention("output_blocks.1.1", 64),
        **res_block("output_blocks.2.0", 96, 32, emb=128),
        **res_block("output_blocks.3.0", 64, 32, emb=128),
        "out.0.weight": (32,),
        "out.2.weight": (6, 32, 3, 3),
    }
    if updown:
        expected |= res_block("input_blocks.2.0", 32, 32, emb=128) | res_block("output_blocks.1.2", 64, 64, emb=128)
    elif conv:
        expected |= {"input_blocks.2.0.op.weight": (32, 32, 3, 3), "output_blocks.1.2.conv.weight": (64, 64, 3, 3)}
    expected |= {name.replace(".weight", ".bias"): shape[:1] for name, shape in expected.items()}
    expected["label_emb.weight"] = (5, 128)
    assert {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} == expected


# ------------------------------------------------------------- an independent implementation


def to_diffusers(state: dict[str, torch.Tensor], mult: tuple, num_res_blocks: int, heads: int) -> dict:
    """The weights of a U-Net with resblock_updown under diffusers' names (q, k and v apart, linear in place of 1x1)."""
    out: dict[str, torch.Tensor] = {}

    def copy(old: str, new: str) -> None:
        out.update({f"{new}.{part}": state[f"{old}.{part}"] for part in ("weight", "bias")})

    def copy_block(old: str, new: str) -> None:
        names = {"in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj"}
        names |= {"out_layers.0": "norm2", "out_layers.3": "conv2", "skip_connection": "conv_shortcut"}
        for part, name in names.items():
            if f"{old}.{part}.weight" in state:
                copy(f"{old}.{part}", f"{new}.{name}")

    def copy_attention(old: str, new: str) -> None:
        copy(f"{old}.norm", f"{new}.group_norm")
        out[f"{new}.to_out.0.weight"] = state[f"{old}.proj_out.weight"][:, :, 0]
        out[f"{new}.to_out.0.bias"] = state[f"{old}.proj_out.bias"]
        width = state[f"{old}.proj_out.bias"].numel()
        weight = state[f"{old}.qkv.weight"].reshape(heads, 3, width // heads, width)
        bias = state[f"{old}.qkv.bias"].reshape(heads, 3, width // heads)
        for part, name in enumerate(("to_q", "to_k", "to_v")):
            out[f"{new}.{name}.weight"] = weight[:, part].reshape(width, width)
            out[f"{new}.{name}.bias"] = bias[:, part].reshape(width)

    copy("time_embed.0", "time_embedding.linear_1")
    copy("time_embed.2", "time_embedding.linear_2")
    out["class_embedding.weight"] = state["label_emb.weight"]
    copy("input_blocks.0.0", "conv_in")
    index = 1
    for level in range(len(mult)):
        for i in range(num_res_blocks):
            copy_block(f"input_blocks.{index}.0", f"down_blocks.{level}.resnets.{i}")
            if f"input_blocks.{index}.1.qkv.weight" in state:
                copy_attention(f"input_blocks.{index}.1", f"down_blocks.{level}.attentions.{i}")
            index += 1
        if level < len(mult) - 1:
            copy_block(f"input_blocks.{index}.0", f"down_blocks.{level}.downsamplers.0")
            index += 1
    copy_block("middle_block.0", "mid_block.resnets.0")
    copy_attention("middle_block.1", "mid_block.attentions.0")
    copy_block("middle_block.2", "mid_block.resnets.1")
    for index in range(len(mult) * (num_res_blocks + 1)):
        level, i = divmod(index, num_res_blocks + 1)
        copy_block(f"output_blocks.{index}.0", f"up_blocks.{level}.resnets.{i}")
        attended = f"output_blocks.{index}.1.qkv.weight" in state
        if attended:
            copy_attention(f"output_blocks.{index}.1", f"up_blocks.{level}.attentions.{i}")
        if i == num_res_blocks and level < len(mult) - 1:
            copy_block(f"output_blocks.{index}.{1 + attended}", f"up_blocks.{level}.upsamplers.0")
    copy("out.0", "conv_norm_out")
    copy("out.2", "conv_out")
    return out


def test_output_equals_diffusers_with_the_same_weights() -> None:
    from diffusers import UNet2DModel

    heads = 4
    options = {"channels": 32, "channel_mult": (1, 2, 2), "num_res_blocks": 2, "attention_resolutions": (4,)}
    ours = build(16, out_channels=6, num_classes=5, num_head_channels=64 // heads, **options)
    assert ours.state_dict()["input_blocks.8.1.qkv.weight"].shape == (192, 64, 1)
    theirs = UNet2DModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        block_out_channels=(32, 64, 64),
        layers_per_block=2,
        down_block_types=("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=64 // heads,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=5,
        norm_eps=1e-5,
        attn_norm_num_groups=32,
        flip_sin_to_cos=True,
        freq_shift=0,
    ).eval()
    randomize(ours)
    missing = theirs.load_state_dict(to_diffusers(ours.state_dict(), (1, 2, 2), 2, heads))
    assert not missing.missing_keys
    x, t = inputs(16)
    labels = torch.tensor([4, 1])
    with torch.no_grad():
        expected = theirs(x, t, class_labels=labels).sample
        actual = ours.eval()(x, t, labels)
    assert expected.std() > 0.1
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------- behaviour


@pytest.mark.parametrize("size", [8, 16, 25, 28, 32, 64])
def test_any_size_builds_and_starts_at_zero(size: int) -> None:
    model = build(size, in_channels=1, out_channels=2, channels=32)
    x, t = inputs(size, n=1, channels=1)
    out = model(x, t)
    assert out.shape == (1, 2, size, size)
    assert not out.any()


@pytest.mark.parametrize("updown", [True, False])
def test_time_labels_and_every_parameter_matter(updown: bool) -> None:
    model = build(num_classes=3, **SMALL, resblock_updown=updown)
    randomize(model)
    x, t = inputs()
    first = model(x, t, torch.tensor([0, 1]))
    assert not torch.allclose(first, model(x, t + 100, torch.tensor([0, 1])))
    other = model(x, t, torch.tensor([0, 2]))
    torch.testing.assert_close(first[0], other[0])
    assert not torch.allclose(first[1], other[1])
    first.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0] == []


def test_labels_are_given_when_and_only_when_there_are_classes() -> None:
    x, t = inputs()
    with pytest.raises(ValueError, match="conditional on 3 classes"):
        build(num_classes=3, **SMALL)(x, t)
    with pytest.raises(ValueError, match="without classes"):
        build(**SMALL)(x, t, torch.tensor([0, 1]))


def test_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for use_checkpoint in (False, True):
        model = build(**SMALL, use_checkpoint=use_checkpoint)
        randomize(model)
        x, t = inputs()
        model(x, t).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        assert torch.equal(plain, recomputed)


def test_checkpointing_recomputes(monkeypatch: pytest.MonkeyPatch) -> None:
    from debiasctl.builtin.backbones import layers

    calls = []
    forward = layers.ResBlock.forward
    monkeypatch.setattr(layers.ResBlock, "forward", lambda *args: calls.append(1) or forward(*args))
    x, t = inputs()
    counts = []
    for use_checkpoint in (False, True):
        calls.clear()
        build(**SMALL, use_checkpoint=use_checkpoint)(x, t).sum().backward()
        counts.append(len(calls))
    assert counts[1] == 2 * counts[0]


@pytest.mark.parametrize("option", ["use_scale_shift_norm", "use_new_attention_order"])
def test_option_changes_the_output(option: str) -> None:
    outputs = []
    for value in (False, True):
        model = build(**SMALL, **{option: value})
        randomize(model)
        outputs.append(model(*inputs()))
    assert not torch.allclose(*outputs)


def test_dropout_acts_in_training_only() -> None:
    model = build(**SMALL, dropout=0.5)
    randomize(model)
    x, t = inputs()
    assert not torch.equal(model(x, t), model(x, t))
    model.eval()
    assert torch.equal(model(x, t), model(x, t))


def test_same_seed_same_weights() -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(build(**SMALL).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_agree_with_float32(dtype: torch.dtype) -> None:
    model = build(**SMALL)
    randomize(model)
    x, t = inputs()
    reference = model(x, t).detach()
    out = model.to(dtype)(x.to(dtype), t).detach()
    assert out.dtype == dtype
    tolerance = 1e-4 if dtype == torch.float64 else 0.1
    assert (out.float() - reference).abs().max() < tolerance * reference.abs().max()


# ------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("size", "mult"),
    [
        (8, (1, 2)),
        (16, (1, 2, 2)),
        (25, (1,)),
        (28, (1, 2, 2)),
        (32, (1, 2, 2, 2)),
        (64, (1, 2, 3, 4)),
        (96, (1, 2, 3, 4)),
        (128, (1, 1, 2, 3, 4)),
        (256, (1, 1, 2, 2, 4, 4)),
        (512, (0.5, 1, 1, 2, 2, 4, 4)),
    ],
)
def test_channel_mult_by_size(size: int, mult: tuple) -> None:
    assert default_channel_mult(size) == mult


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_stored_as_the_options_that_it_sets(preset: str) -> None:
    shape = ImageShape(PRESETS[preset].image_size, 3, 6)
    resolved = UNet.resolve_options(UNet.Options.model_validate({"preset": preset}), shape)
    stored = resolved.model_dump(mode="json")
    assert "preset" not in stored
    assert UNet.Options.model_validate(stored) == resolved
    published = {
        **PRESETS[preset].options, **PRESETS[preset].heads, "resblock_updown": True, "use_scale_shift_norm": True,
    }  # fmt: skip
    assert {name: getattr(resolved, name) for name in published} == published


@pytest.mark.parametrize("size, millions", [(64, 296), (128, 422), (256, 554), (512, 559)])
def test_the_presets_of_imagenet_have_as_many_parameters_as_published(size: int, millions: int) -> None:
    """ADM's sizes in millions (arXiv 2105.05233)."""
    with torch.device("meta"):
        model = registry.create("backbones", f"unet:preset=imagenet{size}").build(ImageShape(size, 3, 6), 1000)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == millions


def test_what_is_given_beside_a_preset_overrides_it() -> None:
    options = UNet.Options.model_validate({"preset": "imagenet128", "num_head_channels": 64, "dropout": 0.3})
    assert (options.channels, options.num_heads, options.num_head_channels, options.dropout) == (256, None, 64, 0.3)
    with pytest.raises(PluginOptionsError, match=r"'cifar10', .*'imagenet512'"):
        registry.create("backbones", "unet:preset=cifar")


@pytest.mark.parametrize(("size", "attention"), [(8, (8,)), (25, ()), (28, (14,)), (32, (16,)), (256, (16,))])
def test_resolved_options_are_complete_and_stay_as_they_are(size: int, attention: tuple) -> None:
    shape = ImageShape(size, 3, 3)
    resolved = UNet.resolve_options(UNet.Options(), shape)
    assert resolved.attention_resolutions == attention
    assert resolved.num_head_channels == 64
    reread = UNet.Options.model_validate_json(resolved.model_dump_json())
    assert reread.model_dump_json() == resolved.model_dump_json()
    assert UNet.resolve_options(reread, shape) == resolved


def test_head_channels_that_are_unset_fit_small_widths() -> None:
    options = UNet.Options(channels=32, channel_mult=(1, 2), attention_resolutions=(8, 4))
    assert UNet.resolve_options(options, ImageShape(8, 1, 1)).num_head_channels == 32


def test_number_of_heads() -> None:
    by_count = build(channels=64, channel_mult=(1, 2), attention_resolutions=(8,), num_heads=2)
    by_width = build(channels=64, channel_mult=(1, 2), attention_resolutions=(8,), num_head_channels=32)
    assert [by_count.input_blocks[1][1].num_heads, by_count.middle_block[1].num_heads] == [2, 2]
    assert [by_width.input_blocks[1][1].num_heads, by_width.middle_block[1].num_heads] == [2, 4]


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (28, {"channel_mult": (1, 2, 2, 2)}, "28 px can only be halved 2 times. Allowed: at most 3 levels"),
        (8, {"channels": 48}, "multiple of norm_groups 32"),
        (8, {"channels": 32, "channel_mult": (1, 1, 1, 1)}, "single value, .* Use norm_groups=16 or fewer levels"),
        (8, {"channels": 32, "channel_mult": (0.01, 1)}, "gives levels of 0, 32 channels"),
        (32, {"attention_resolutions": (16, 7)}, "attention_resolutions 7: .* Allowed .*: 32, 16, 8, 4"),
        (32, {"num_head_channels": 48}, "num_head_channels 48 does not divide .* Allowed: the divisors of 256"),
        (32, {"num_heads": 3}, "num_heads 3 does not divide"),
    ],
)
def test_what_does_not_fit_the_image_is_refused(size: int, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(size, **options)


def test_norm_groups_allow_other_widths() -> None:
    model = build(channels=48, norm_groups=16)
    randomize(model)
    assert model(*inputs()).isfinite().all()


@pytest.mark.parametrize(
    "options", [{"num_heads": 2, "num_head_channels": 32}, {"conv_resample": False}, {"channel_mult": ()}]
)
def test_options_that_contradict_or_do_nothing_are_refused(options: dict) -> None:
    with pytest.raises(ValidationError):
        UNet.Options(**options)


def test_references_reach_the_options() -> None:
    plugin = registry.create("backbones", "unet:channels=32,channel_mult=[1,2],attention_resolutions=[4],num_heads=2")
    assert plugin.options == UNet.Options(channels=32, channel_mult=(1, 2), attention_resolutions=(4,), num_heads=2)
    with pytest.raises(PluginOptionsError, match="channel_mult"):
        registry.create("backbones", "unet:channel_mult=[1,0]")
