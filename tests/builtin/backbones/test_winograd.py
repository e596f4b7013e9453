import pytest
import torch
from torch.nn import functional

from debiasctl.api import ImageShape
from debiasctl.builtin.backbones import winograd
from debiasctl.builtin.backbones.unet import UNet
from debiasctl.builtin.backbones.winograd import Conv3x3, WinogradConvolution, pays


def tensors(n=3, channels=5, height=8, width=7, out_channels=6, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    shapes = [(n, channels, height, width), (out_channels, channels, 3, 3), (out_channels,)]
    x, weight, bias = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return x.contiguous(memory_format=torch.channels_last), weight, bias


def direct(x, weight, bias):
    return functional.conv2d(x, weight, bias, padding=1)


def with_gradients(convolution, x, weight, bias):
    """The output, and the gradients of its product with a fixed tensor in another layout."""
    given = [tensor.clone().requires_grad_() for tensor in (x, weight, bias) if tensor is not None]
    out = convolution(*given, *([None] if bias is None else []))
    factor = torch.randn(out.shape, dtype=out.dtype, generator=torch.Generator().manual_seed(4))
    return [out.detach(), *torch.autograd.grad((out * factor).sum(), given)]


@pytest.mark.parametrize(("height", "width"), [(4, 4), (4, 1), (8, 7), (16, 16)])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 2 * 8 * 7 * 6, 10**9])  # one image at a time, two of the three at once, all
def test_output_and_gradients_are_the_direct_convolutions(height, width, with_bias, chunk, monkeypatch) -> None:
    monkeypatch.setattr(winograd, "_CHUNK", chunk)
    x, weight, bias = tensors(height=height, width=width)
    given = (x, weight, bias if with_bias else None)
    both = with_gradients(WinogradConvolution.apply, *given), with_gradients(direct, *given)
    for ours, theirs in zip(*both, strict=True):
        assert (ours - theirs).abs().max() < 1e-12 * theirs.abs().max()


def test_an_input_that_needs_no_gradient_gets_none() -> None:
    x, weight, bias = tensors()
    weight.requires_grad_()
    WinogradConvolution.apply(x, weight, bias).sum().backward()
    expected = weight.detach().clone().requires_grad_()
    direct(x, expected, bias).sum().backward()
    assert x.grad is None
    torch.testing.assert_close(weight.grad, expected.grad)


def test_float32_is_as_exact_as_the_direct_sum() -> None:
    x, weight, bias = tensors(n=4, channels=128, height=16, width=16, out_channels=128)
    exact = with_gradients(direct, x, weight, bias)
    single = [tensor.float() for tensor in (x, weight, bias)]
    for ours, theirs, right in zip(
        with_gradients(WinogradConvolution.apply, *single), with_gradients(direct, *single), exact, strict=True
    ):
        error, usual = ((found - right).norm() / right.norm() for found in (ours, theirs))
        assert error < max(4 * usual, 1e-6)


def test_what_pays() -> None:
    x = torch.zeros(4, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    assert pays(x, 64)
    assert pays(x.double(), 64)
    assert not pays(x, 32)  # little to multiply
    assert not pays(x[:3], 64)  # few pixels
    assert not pays(x.bfloat16(), 64)
    assert not pays(x.to("meta"), 64)
    assert not pays(x.contiguous(), 64)
    assert not pays(x[:, :, :14].contiguous(memory_format=torch.channels_last), 64)  # no multiple of four rows
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not pays(x, 64)


@pytest.mark.parametrize(("n", "calls"), [(4, 1), (1, 0)])
def test_the_layer_is_a_convolution_by_whichever_pays(n, calls, monkeypatch) -> None:
    seen = []
    apply = WinogradConvolution.apply
    monkeypatch.setattr(WinogradConvolution, "apply", lambda *given: seen.append(1) or apply(*given))
    torch.manual_seed(1)
    layer = Conv3x3(64, 64).double()
    torch.manual_seed(1)
    usual = torch.nn.Conv2d(64, 64, 3, padding=1).double()
    x = torch.randn(n, 64, 16, 16, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(x), usual(x), rtol=1e-12, atol=1e-12)
    assert len(seen) == calls
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def unet() -> torch.nn.Module:
    options = UNet.Options(channels=64, channel_mult=(1, 2), attention_resolutions=(8,))
    model = UNet(options).build(ImageShape(16, 3, 6), 0).double()
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        scale = 0.3 if parameter.ndim < 2 else parameter[0].numel() ** -0.5
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * scale
    return model


def test_the_unet_is_the_same_in_either_layout() -> None:
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    t = torch.tensor([3.0, 80.0, 500.0, 999.0], dtype=torch.float64)
    found = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        model = unet()
        model.memory_format = memory_format
        out = model(x, t)
        assert out.is_contiguous(memory_format=memory_format)
        out.square().sum().backward()
        found.append([out.detach(), *(parameter.grad for parameter in model.parameters())])
    for ours, usual in zip(*found, strict=True):
        assert (ours - usual).abs().max() < 1e-12 * usual.abs().max()


def test_no_convolution_of_the_unet_reorders_its_input() -> None:
    model, ordered = unet(), []
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_pre_hook(
                lambda _, given: ordered.append(given[0].is_contiguous(memory_format=torch.channels_last))
            )
    model(torch.randn(4, 3, 16, 16, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
    assert len(ordered) > 10
    assert all(ordered)
