"""Checkpoints in the layout of DiT's authors, whose function is written out here from the paper (2212.09748)."""

import argparse
import math
import os
from pathlib import Path

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import Tensor
from torch.nn import functional

from debiasctl import registry
from debiasctl.api import ExternalModel, ImageShape, ModelError, UsageError

WIDTH, DEPTH, HEADS, PATCH, CHANNELS, SIZE, ROWS = 24, 2, 3, 2, 4, 8, 6


def published_state(*, outputs: int = 2 * CHANNELS, rows: int = ROWS, width: int = WIDTH) -> dict[str, Tensor]:
    """Random tensors by the names and shapes of DiT's code."""
    shapes = {"pos_embed": (1, (SIZE // PATCH) ** 2, width), "x_embedder.proj.weight": (width, CHANNELS, PATCH, PATCH)}
    shapes |= {"x_embedder.proj.bias": (width,)}
    linear = {"t_embedder.mlp.0": (256, width), "t_embedder.mlp.2": (width, width)}
    for block in range(DEPTH):
        linear |= {
            f"blocks.{block}.attn.qkv": (width, 3 * width),
            f"blocks.{block}.attn.proj": (width, width),
            f"blocks.{block}.mlp.fc1": (width, 4 * width),
            f"blocks.{block}.mlp.fc2": (4 * width, width),
            f"blocks.{block}.adaLN_modulation.1": (width, 6 * width),
        }
    linear |= {
        "final_layer.linear": (width, PATCH**2 * outputs),
        "final_layer.adaLN_modulation.1": (width, 2 * width),
    }
    for name, (inner, outer) in linear.items():
        shapes |= {f"{name}.weight": (outer, inner), f"{name}.bias": (outer,)}
    if rows:
        shapes |= {"y_embedder.embedding_table.weight": (rows, width)}
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def published_dit(state: dict[str, Tensor], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    """DiT as the paper describes it, in float64: adaLN-Zero blocks, Fig. 3; the embedding of t is ADM's."""
    state = {name: tensor.double() for name, tensor in state.items()}

    def linear(name: str, value: Tensor) -> Tensor:
        return value @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(value: Tensor) -> Tensor:
        centred = value - value.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()

    def silu(value: Tensor) -> Tensor:
        return value / (1 + (-value).exp())

    def gelu(value: Tensor) -> Tensor:
        return value / 2 * (1 + (math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)).tanh())

    rates = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float64) / 128)
    angles = t.double()[:, None] * rates
    embedded = torch.cat([angles.cos(), angles.sin()], dim=1)
    c = linear("t_embedder.mlp.2", silu(linear("t_embedder.mlp.0", embedded)))
    c = silu(c + state["y_embedder.embedding_table.weight"][y])[:, None]
    weight, bias = state["x_embedder.proj.weight"], state["x_embedder.proj.bias"]
    h = functional.conv2d(x.double(), weight, bias, stride=PATCH).flatten(2).mT + state["pos_embed"]
    for number in range(DEPTH):
        block = f"blocks.{number}"
        shift1, scale1, gate1, shift2, scale2, gate2 = linear(f"{block}.adaLN_modulation.1", c).chunk(6, dim=-1)
        q, k, v = linear(f"{block}.attn.qkv", norm(h) * (1 + scale1) + shift1).chunk(3, dim=-1)
        heads = [
            torch.softmax(qi @ ki.mT / math.sqrt(qi.shape[-1]), dim=-1) @ vi
            for qi, ki, vi in zip(*(one.chunk(HEADS, dim=-1) for one in (q, k, v)), strict=True)
        ]
        h = h + gate1 * linear(f"{block}.attn.proj", torch.cat(heads, dim=-1))
        inner = gelu(linear(f"{block}.mlp.fc1", norm(h) * (1 + scale2) + shift2))
        h = h + gate2 * linear(f"{block}.mlp.fc2", inner)
    shift, scale = linear("final_layer.adaLN_modulation.1", c).chunk(2, dim=-1)
    patches = linear("final_layer.linear", norm(h) * (1 + scale) + shift)
    side = SIZE // PATCH
    patches = patches.reshape(len(x), side, side, PATCH, PATCH, -1)
    return torch.einsum("nhwpqc->nchpwq", patches).reshape(len(x), -1, SIZE, SIZE)


def read(path: Path, options: str = f"num_heads={HEADS}") -> ExternalModel:
    return registry.create("models", f"dit:path={path}{',' if options else ''}{options}").read()


def network_of(model: ExternalModel) -> torch.nn.Module:
    backbone = registry.create("backbones", {"name": model.backbone, "options": dict(model.backbone_options)})
    shape = ImageShape(model.image_size, model.channels, model.channels * (1 + model.learned_variance))
    network = backbone.build(shape, model.num_classes + model.null_class).eval()
    network.load_state_dict(dict(model.weights))
    return network


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    x = torch.randn(3, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, torch.tensor([0.0, 17.5, 999.0], dtype=torch.float64), torch.tensor([0, 3, ROWS - 1])


def saved(tmp_path: Path, content: object, name: str = "0400000.pt") -> Path:
    torch.save(content, tmp_path / name)
    return tmp_path / name


def test_published_weights_give_the_published_function_and_are_written_back_bit_for_bit(tmp_path: Path) -> None:
    state = published_state()
    model = read(saved(tmp_path, state))
    assert (model.prediction, model.schedule, model.num_classes, model.null_class) == ("eps", "linear", ROWS - 1, True)
    assert (model.learned_variance, model.image_size, model.channels) == (True, SIZE, CHANNELS)
    torch.testing.assert_close(network_of(model).double()(*inputs()), published_dit(state, *inputs()))
    for name in ("back.pt", "back.safetensors"):
        notes = registry.load("models", "dit").write(model, tmp_path / name)
        back = read(tmp_path / name)
        assert all(torch.equal(back.weights[key], tensor) for key, tensor in model.weights.items())
    written = torch.load(tmp_path / "back.pt", weights_only=True)
    assert written.keys() == state.keys()
    assert all(torch.equal(written[key], state[key]) for key in state)
    assert "num_classes=5, learn_sigma=True" in notes[0]


def test_the_function_is_that_of_diffusers(tmp_path: Path) -> None:
    state = published_state()
    theirs = DiTTransformer2DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=CHANNELS, out_channels=2 * CHANNELS,
        num_layers=DEPTH, sample_size=SIZE, patch_size=PATCH, num_embeds_ada_norm=ROWS - 1, norm_eps=1e-6,
    )  # fmt: skip
    named = {f"pos_embed.proj.{part}": state[f"x_embedder.proj.{part}"] for part in ("weight", "bias")}
    for part in ("weight", "bias"):
        named[f"proj_out_1.{part}"] = state[f"final_layer.adaLN_modulation.1.{part}"]
        named[f"proj_out_2.{part}"] = state[f"final_layer.linear.{part}"]
        for block in range(DEPTH):
            here, there = f"blocks.{block}", f"transformer_blocks.{block}"
            named[f"{there}.norm1.emb.timestep_embedder.linear_1.{part}"] = state[f"t_embedder.mlp.0.{part}"]
            named[f"{there}.norm1.emb.timestep_embedder.linear_2.{part}"] = state[f"t_embedder.mlp.2.{part}"]
            named[f"{there}.norm1.emb.class_embedder.embedding_table.weight"] = state[
                "y_embedder.embedding_table.weight"
            ]
            named[f"{there}.norm1.linear.{part}"] = state[f"{here}.adaLN_modulation.1.{part}"]
            for one, value in zip("qkv", state[f"{here}.attn.qkv.{part}"].chunk(3), strict=True):
                named[f"{there}.attn1.to_{one}.{part}"] = value
            named[f"{there}.attn1.to_out.0.{part}"] = state[f"{here}.attn.proj.{part}"]
            named[f"{there}.ff.net.0.proj.{part}"] = state[f"{here}.mlp.fc1.{part}"]
            named[f"{there}.ff.net.2.{part}"] = state[f"{here}.mlp.fc2.{part}"]
    theirs.load_state_dict(named)
    theirs.pos_embed.pos_embed.copy_(state["pos_embed"])
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # its frequencies are not those that DiT was trained with
    (x, _, y), t = inputs(), torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)  # it embeds t in float32
    with torch.no_grad():
        expected = theirs.double().eval()(x, timestep=t, class_labels=y).sample
    torch.testing.assert_close(
        network_of(read(saved(tmp_path, state))).double()(x, t, y), expected, rtol=1e-4, atol=1e-4
    )


def test_a_training_checkpoint_has_averaged_weights_and_others_beside_its_arguments(tmp_path: Path) -> None:
    state, other = published_state(), {name: tensor + 1 for name, tensor in published_state().items()}
    content = {"ema": state, "model": other, "opt": {}, "args": argparse.Namespace(image_size=256)}
    path = saved(tmp_path, content)
    for which, tensors in (("ema", state), ("model", other)):
        weights = read(path, f"num_heads={HEADS},weights={which}").weights
        assert torch.equal(weights["time_embed.0.weight"], tensors["t_embedder.mlp.0.weight"])
    assert torch.equal(read(path).weights["time_embed.0.weight"], state["t_embedder.mlp.0.weight"])
    with pytest.raises(ModelError, match="has no tensors by the name 'model': it holds 'pos_embed'"):
        read(saved(tmp_path, state, "flat.pt"), f"num_heads={HEADS},weights=model")
    with pytest.raises(ModelError, match="holds an empty mapping, not tensors by name"):
        read(saved(tmp_path, {"ema": {}}, "empty.pt"))
    parallel = {f"module.{name}": tensor for name, tensor in state.items()}
    with pytest.raises(ModelError, match=r"its names have the prefix 'module\.'"):
        read(saved(tmp_path, parallel, "parallel.pt"))


class Harmful:
    """Its pickle makes a folder when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.path),)


def test_nothing_that_a_file_holds_is_run(tmp_path: Path) -> None:
    harmful = Harmful(tmp_path / "harm")
    for content in ({"ema": published_state(), "args": argparse.Namespace(other=harmful)}, {"pos_embed": harmful}):
        with pytest.raises(ModelError, match=r"holds objects of code beside tensors \(posix.mkdir\)"):
            read(saved(tmp_path, content))
    assert not harmful.path.exists()


def test_the_published_sizes_need_no_options(tmp_path: Path) -> None:
    with torch.device("meta"):
        backbone = registry.create("backbones", "dit:preset=S/8")
        own = backbone.build(ImageShape(32, 4, 4), 0).state_dict()
    weights = {name: torch.zeros(tensor.shape) for name, tensor in own.items()}
    options = backbone.options.model_dump()
    model = ExternalModel("dit", options, weights, image_size=32, channels=4, prediction="eps", schedule="linear")
    registry.load("models", "dit").write(model, tmp_path / "small.pt")
    with pytest.raises(UsageError, match=r"'small.zip' does not end in .pt, .pth or .safetensors"):
        registry.load("models", "dit").write(model, tmp_path / "small.zip")
    assert dict(read(tmp_path / "small.pt", "").backbone_options) == options
    assert "(DiT-S/8)" in read(tmp_path / "small.pt", "").notes[0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda state: state.pop("blocks.1.attn.qkv.bias"), ModelError, r"1 missing: 'blocks.1.attn.qkv.bias'"),
        (lambda state: state.update(extra=torch.ones(1)), ModelError, "1 unexpected: 'extra'"),
        (lambda state: state.pop("pos_embed"), ModelError, "not a checkpoint of DiT: it does not hold 'pos_embed'"),
        (
            lambda state: state.update({"blocks.0.attn.proj.weight": torch.ones(3, 3)}),
            ModelError,
            r"1 of another shape: 'blocks.0.attn.proj.weight' is \[3, 3\] in the file and \[24, 24\] in the network",
        ),
        (
            lambda state: state.update({"blocks.999999999.x": torch.ones(1)}),
            ModelError,
            "unexpected: 'blocks.999999999",
        ),
    ],
)
def test_another_network_is_refused_with_the_names_that_differ(tmp_path: Path, change, error, message: str) -> None:
    state = published_state()
    change(state)
    with pytest.raises(error, match=message):
        read(saved(tmp_path, state))


def test_what_a_file_does_not_say_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, published_state())
    with pytest.raises(UsageError, match=r"no published DiT has 2 blocks of width 24.*num_heads=N"):
        read(path, "")
    with pytest.raises(UsageError, match=r"must be a multiple of 4.*and of num_heads 5"):
        read(path, "num_heads=5")
    with pytest.raises(UsageError, match="num_classes=3, and the table of classes has 6 rows"):
        read(path, f"num_heads={HEADS},num_classes=3")
    model = read(path, f"num_heads={HEADS},num_classes={ROWS}")
    assert (model.num_classes, model.null_class) == (ROWS, False)


def test_an_own_network_is_exported_with_its_computed_positions(tmp_path: Path) -> None:
    backbone = registry.create(
        "backbones", f"dit:patch_size={PATCH},hidden_size={WIDTH},depth={DEPTH},num_heads={HEADS}"
    )
    network = backbone.build(ImageShape(SIZE, CHANNELS, CHANNELS), ROWS).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    options = backbone.options.model_dump()
    model = ExternalModel(
        "dit", options, network.state_dict(), SIZE, CHANNELS, "v", "cosine", num_classes=ROWS - 1, null_class=True
    )
    notes = registry.load("models", "dit").write(model, tmp_path / "own.pt")
    state = torch.load(tmp_path / "own.pt", weights_only=True)
    torch.testing.assert_close(network.double()(*inputs()), published_dit(state, *inputs()))
    assert any("it predicts v" in note for note in notes)
    with pytest.raises(UsageError, match="backbone dit"):
        registry.load("models", "dit").write(
            ExternalModel("unet", {}, {}, SIZE, CHANNELS, "v", "cosine"), tmp_path / "unet.pt"
        )
