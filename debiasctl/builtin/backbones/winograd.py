"""3 × 3 convolutions on a CPU with half of the multiplications (Winograd; Lavin & Gray, 2015, arXiv 1509.09308)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

# F(4, 3) over rows: four output rows from six input rows take six products instead of twelve. With d six rows of the
# input and g the kernel's three, y = A^T [(G g) * (B^T d)]; the points are 0, 1, -1, 2, -2 and infinity. Over columns a
# row's product is an ordinary 1 × 3 convolution, which oneDNN computes at nearly the peak rate of the cores.
_G = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, -4),
)
_BIAS = 1  # the product that enters each of the four rows once
_TILE = 4
_CHUNK = 2**22  # input values at a time, so that transformed rows are still in the cache when they are used

# below these the transforms cost more than they save (measured by benchmarks/train.py)
_FEWEST_CHANNELS, _FEWEST_ROWS, _FEWEST_PIXELS = 64, 16, 1024


class Conv3x3(nn.Conv2d):
    """A 3 × 3 convolution that keeps the size.

    On a CPU, where it is faster, Winograd's algorithm computes it, which agrees with the direct sum up to rounding: the
    float32 error of either is about 1e-6 of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H, W]."""
        if pays(input, self.out_channels) and self.weight.dtype == input.dtype:
            out: Tensor = WinogradConvolution.apply(input, self.weight, self.bias)
            return out
        return super().forward(input)


def pays(x: Tensor, out_channels: int) -> bool:
    """Whether a convolution of `x` [N, C, H, W] to `out_channels` is faster by Winograd's algorithm."""
    n, channels, height, width = x.shape
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and min(channels, out_channels) >= _FEWEST_CHANNELS
        and height % _TILE == 0
        and height >= _FEWEST_ROWS
        and n * height * width >= _FEWEST_PIXELS
        and x.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class WinogradConvolution(torch.autograd.Function):
    """conv2d(x, weight, bias, padding=1) for channels_last x [N, C, H, W] with H a multiple of 4."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        images, kernels = _rows(x), _kernels(weight)
        out = x.new_empty(*images.shape[:4], weight.shape[0])
        for part in _chunks(x, weight):
            inputs = _transform(images[part])
            products = [
                _rows_of(functional.conv2d(_images(rows), kernel, bias if k == _BIAS else None, padding=(0, 1)))
                for k, (rows, kernel) in enumerate(zip(inputs, kernels, strict=True))
            ]
            _combine(products, out=out[part])
        return _images(out.flatten(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        images, grads, kernels = _rows(x), _rows(grad.contiguous(memory_format=torch.channels_last)), _kernels(weight)
        wants_x = ctx.needs_input_grad[0]
        grad_x = torch.empty_like(images) if wants_x else None
        grad_kernels, grad_bias = [torch.zeros_like(kernel) for kernel in kernels], weight.new_zeros(len(weight))
        for part in _chunks(x, weight):
            inputs, outputs, spread = _transform(images[part]), _combine_adjoint(grads[part]), []
            for k, (rows, grad_rows, kernel) in enumerate(zip(inputs, outputs, kernels, strict=True)):
                d_rows, d_kernel, d_bias = torch.ops.aten.convolution_backward(
                    _images(grad_rows), _images(rows), kernel, [len(weight)],
                    [1, 1], [0, 1], [1, 1], False, [0, 0], 1, [wants_x, True, k == _BIAS and ctx.has_bias],
                )  # fmt: skip
                grad_kernels[k] += d_kernel
                if d_bias is not None:
                    grad_bias += d_bias
                if wants_x:
                    spread.append(_rows_of(d_rows))
            if grad_x is not None:
                _transform_adjoint(spread, out=grad_x[part])
        grad_weight = torch.einsum("ki,kocj->ocij", _matrix(weight), torch.stack(grad_kernels)[:, :, :, 0])
        return (
            None if grad_x is None else _images(grad_x.flatten(1, 2)),
            grad_weight,
            grad_bias if ctx.has_bias else None,
        )


def _rows(x: Tensor) -> Tensor:
    """View channels_last [N, C, H, W] as [N, H/4, 4, W, C]."""
    n, channels, height, width = x.shape
    return x.permute(0, 2, 3, 1).view(n, height // _TILE, _TILE, width, channels)


def _rows_of(x: Tensor) -> Tensor:
    """View channels_last [N, C, H, W] as [N, H, W, C]."""
    return x.permute(0, 2, 3, 1)


def _images(rows: Tensor) -> Tensor:
    """View [N, H, W, C] as channels_last [N, C, H, W]."""
    return rows.permute(0, 3, 1, 2)


def _matrix(like: Tensor) -> Tensor:
    return torch.tensor(_G, dtype=like.dtype)


def _kernels(weight: Tensor) -> list[Tensor]:
    """Compute G g, from [C', C, 3, 3] to six of [C', C, 1, 3], channels_last."""
    kernels = torch.einsum("ki,ocij->kojc", _matrix(weight), weight).contiguous()  # [6, C', 3, C]
    return list(kernels[:, :, None].permute(0, 1, 4, 2, 3))


def _chunks(x: Tensor, weight: Tensor) -> list[slice]:
    n, _, height, width = x.shape
    size = max(1, _CHUNK // (height * width * max(weight.shape[:2])))
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def _transform(x: Tensor) -> Tensor:
    """Compute B^T d, from [N, H/4, 4, W, C] to [6, N, H/4, W, C]; d is the row before, four rows, and the row after."""
    d1, d2, d3, d4 = x.unbind(2)
    before, after = d4[:, :-1], d1[:, 1:]  # for all but the first, and for all but the last; zero beyond the image
    v = x.new_empty(6, *d1.shape)
    even, odd = torch.sub(d4, d2, alpha=4, out=v[0]), torch.sub(d3, d1, alpha=4, out=v[5])
    torch.add(even, odd, out=v[1])
    torch.sub(even, odd, out=v[2])
    torch.sub(d4, d2, out=even)
    torch.sub(d3, d1, out=odd)
    torch.add(even, odd, alpha=2, out=v[3])
    torch.sub(even, odd, alpha=2, out=v[4])
    v[0].sub_(d2, alpha=4)[:, 1:].add_(before, alpha=4)  # 4 d0 - 5 d2 + d4
    v[5].add_(d3, alpha=0.25)[:, :-1].sub_(after, alpha=0.25)  # -(4 d1 - 5 d3 + d5) / 4
    return v


def _transform_adjoint(v: list[Tensor], *, out: Tensor) -> None:
    """Compute B v, from six of [N, H/4, W, C] to [N, H/4, 4, W, C], the adjoint of `_transform`; overwrite v."""
    v0, v1, v2, v3, v4, v5 = v
    d1, d2, d3, d4 = out.unbind(2)
    plus, minus = v1 + v2, v1.sub_(v2)
    plus2, minus2 = torch.add(v3, v4, out=v2), v3.sub_(v4)
    torch.add(v5, minus, alpha=4, out=d1).add_(minus2, alpha=2).neg_()
    torch.add(v0, plus, alpha=0.8, out=d2).mul_(-5).sub_(plus2)
    torch.add(minus, minus2, alpha=2, out=d3).add_(v5, alpha=1.25)
    torch.add(v0, plus, out=d4).add_(plus2)
    d4[:, :-1].add_(v0[:, 1:], alpha=4)
    d1[:, 1:].sub_(v5[:, :-1], alpha=0.25)


def _combine(m: list[Tensor], *, out: Tensor) -> None:
    """Compute A^T m, from six of [N, H/4, W, C'] to [N, H/4, 4, W, C']; overwrite m."""
    m0, m1, m2, m3, m4, m5 = m
    y0, y1, y2, y3 = out.unbind(2)
    plus, minus = m1 + m2, m1.sub_(m2)
    plus2, minus2 = torch.add(m3, m4, out=m2), m3.sub_(m4)
    torch.add(m0, plus, out=y0).add_(plus2)
    torch.add(minus, minus2, alpha=2, out=y1)
    torch.add(plus, plus2, alpha=4, out=y2)
    torch.add(minus, minus2, alpha=8, out=y3).add_(m5)


def _combine_adjoint(y: Tensor) -> Tensor:
    """Compute A y, from [N, H/4, 4, W, C'] to [6, N, H/4, W, C'], the adjoint of `_combine`."""
    y0, y1, y2, y3 = y.unbind(2)
    m = y.new_empty(6, *y0.shape)
    odd, even = torch.add(y1, y3, out=m[5]), torch.add(y0, y2, out=m[1])
    torch.sub(even, odd, out=m[2])
    even.add_(odd)
    torch.add(y1, y3, alpha=4, out=odd)
    even = torch.add(y0, y2, alpha=4, out=m[3])
    torch.sub(even, odd, alpha=2, out=m[4])
    even.add_(odd, alpha=2)
    m[0].copy_(y0)
    m[5].copy_(y3)
    return m
