import math

import pytest
import torch
from torch.nn import functional

from debiasctl.api import ImageShape
from debiasctl.builtin.backbones.layers import (
    AttentionBlock,
    Downsample,
    GroupNorm32,
    ResBlock,
    Upsample,
    check_inputs,
    timestep_embedding,
)


def randomize(module: torch.nn.Module) -> None:
    """Give every parameter, the zero-initialized ones too, values that matter."""
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.2


@pytest.mark.parametrize("dim", [2, 7, 32])
def test_timestep_embedding_is_its_closed_form(dim: int) -> None:
    times = [0.0, 1.0, 12.5, 999.0]
    embedding = timestep_embedding(torch.tensor(times, dtype=torch.float64), dim)
    half = dim // 2
    for row, t in zip(embedding, times, strict=True):
        angles = [t * 10000.0 ** (-i / half) for i in range(half)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles] + [0.0] * (dim % 2)
        torch.testing.assert_close(row, torch.tensor(expected, dtype=torch.float64))


def test_timestep_embedding_of_whole_numbers_is_float32() -> None:
    assert timestep_embedding(torch.tensor([3]), 8).dtype == torch.float32
    assert timestep_embedding(torch.tensor([3.0], dtype=torch.bfloat16), 8).dtype == torch.float32


SHAPE = ImageShape(8, 3, 3)
IMAGES, TIMES, LABELS = torch.zeros(2, 3, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize(
    ("x", "t", "labels", "num_classes", "message"),
    [
        (torch.zeros(2, 1, 8, 8), TIMES, None, 0, "takes \\[N, 3, 8, 8\\]"),
        (torch.zeros(3, 8, 8), TIMES, None, 0, "takes \\[N, 3, 8, 8\\]"),
        (IMAGES, torch.zeros(()), None, 0, "noise_level has shape"),
        (IMAGES, TIMES, None, 10, "conditional on 10 classes"),
        (IMAGES, TIMES, LABELS, 0, "built without classes"),
        (IMAGES, TIMES, LABELS[:1], 10, "labels have shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x, t, labels, num_classes, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_inputs(x, t, labels, shape=SHAPE, num_classes=num_classes)


def test_inputs_that_fit_are_taken() -> None:
    check_inputs(IMAGES, TIMES, None, shape=SHAPE, num_classes=0)
    check_inputs(IMAGES, TIMES, LABELS, shape=SHAPE, num_classes=10)


@pytest.mark.parametrize(
    ("given", "computed"), [(torch.bfloat16, torch.float32), (torch.float32,) * 2, (torch.float64,) * 2]
)
def test_group_norm_computes_in_float32_at_least(given, computed, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    group_norm = functional.group_norm
    monkeypatch.setattr(functional, "group_norm", lambda x, *rest: seen.append(x.dtype) or group_norm(x, *rest))
    norm = GroupNorm32(2, 8).to(given)
    randomize(norm)
    x = torch.randn(2, 8, 4, 4, dtype=given)
    out = norm(x)
    assert seen == [computed]
    assert out.dtype == given
    expected = group_norm(x.to(computed), 2, norm.weight.to(computed), norm.bias.to(computed)).to(given)
    assert torch.equal(out, expected)


def test_downsample_averages_and_upsample_repeats() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert Downsample(1, conv=False)(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert Upsample(1, conv=False)(x)[0, 0, :2].tolist() == [[0, 0, 1, 1, 2, 2, 3, 3]] * 2


@pytest.mark.parametrize("use_new_order", [False, True])
def test_attention_is_the_explicit_einsum(use_new_order: bool) -> None:
    channels, heads, length = 12, 3, 16
    block = AttentionBlock(channels, num_heads=heads, norm_groups=4, use_new_order=use_new_order).double()
    randomize(block)
    x = torch.randn(2, channels, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    size = channels // heads
    flat = functional.group_norm(x, 4, block.norm.weight, block.norm.bias).reshape(2, channels, length)
    qkv = torch.einsum("oc,ncl->nol", block.qkv.weight[:, :, 0], flat) + block.qkv.bias[:, None]
    mixed = torch.empty(2, channels, length, dtype=torch.float64)
    for head in range(heads):
        if use_new_order:  # all of q, then all of k, then all of v
            rows = [slice(part * channels + head * size, part * channels + (head + 1) * size) for part in range(3)]
        else:  # the head's own q, k, v beside one another
            rows = [slice((3 * head + part) * size, (3 * head + part + 1) * size) for part in range(3)]
        q, k, v = (qkv[:, row] for row in rows)
        weight = torch.softmax(torch.einsum("nct,ncs->nts", q, k) / math.sqrt(size), dim=-1)
        mixed[:, head * size : (head + 1) * size] = torch.einsum("nts,ncs->nct", weight, v)
    out = torch.einsum("oc,ncl->nol", block.proj_out.weight[:, :, 0], mixed) + block.proj_out.bias[:, None]
    torch.testing.assert_close(block(x), x + out.reshape(x.shape))


@pytest.mark.parametrize("resample", [None, "up", "down"])
@pytest.mark.parametrize("use_scale_shift_norm", [True, False])
@pytest.mark.parametrize("out_channels", [4, 8])
def test_res_block_is_its_formula(resample, use_scale_shift_norm: bool, out_channels: int) -> None:
    block = ResBlock(
        4,
        out_channels,
        embedding_channels=6,
        norm_groups=2,
        dropout=0.0,
        use_scale_shift_norm=use_scale_shift_norm,
        resample=resample,
    ).double()
    randomize(block)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 4, 4, 4, dtype=torch.float64, generator=generator)
    embedding = torch.randn(3, 6, dtype=torch.float64, generator=generator)
    weights = block.state_dict()

    def resized(image: torch.Tensor) -> torch.Tensor:
        if resample == "up":
            return image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        if resample == "down":
            return (image[..., ::2, ::2] + image[..., 1::2, ::2] + image[..., ::2, 1::2] + image[..., 1::2, 1::2]) / 4
        return image

    def normed(image: torch.Tensor, name: str) -> torch.Tensor:
        return functional.group_norm(image, 2, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def conv(image: torch.Tensor, name: str) -> torch.Tensor:
        weight = weights[f"{name}.weight"]
        return functional.conv2d(image, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    h = conv(resized(functional.silu(normed(x, "in_layers.0"))), "in_layers.2")
    time = functional.silu(embedding) @ weights["emb_layers.1.weight"].T + weights["emb_layers.1.bias"]
    time = time[:, :, None, None]
    if use_scale_shift_norm:
        h = normed(h, "out_layers.0") * (1 + time[:, :out_channels]) + time[:, out_channels:]
    else:
        h = normed(h + time, "out_layers.0")
    h = conv(functional.silu(h), "out_layers.3")
    skip = resized(x) if out_channels == 4 else conv(resized(x), "skip_connection")
    torch.testing.assert_close(block(x, embedding), skip + h)


def test_attention_adds_nothing_at_the_start() -> None:
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(AttentionBlock(8, num_heads=2, norm_groups=2, use_new_order=False)(x), x)


def test_res_block_is_its_skip_at_the_start() -> None:
    block = ResBlock(4, 4, embedding_channels=6, norm_groups=2, dropout=0.0, use_scale_shift_norm=True)
    x = torch.randn(2, 4, 4, 4)
    assert torch.equal(block(x, torch.randn(2, 6)), x)


def test_res_block_dropout_acts_only_in_training() -> None:
    block = ResBlock(4, 4, embedding_channels=6, norm_groups=2, dropout=0.9, use_scale_shift_norm=True)
    randomize(block)
    x, embedding = torch.randn(2, 4, 4, 4), torch.randn(2, 6)
    assert not torch.equal(block(x, embedding), block.eval()(x, embedding))
    assert torch.equal(block(x, embedding), block(x, embedding))
