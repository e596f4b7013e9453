"""The magnitude-preserving operations of EDM2 (arXiv 2312.02696, App. B): independent inputs of unit magnitude give it.

A magnitude is a root mean square over all elements, or over the axis that is named.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional

EPS = 1e-4  # added to a magnitude that is divided by (Alg. 1)
SILU_MAGNITUDE = 0.596  # of silu(z), z ~ N(0, 1) (Eq. 81)
FEATURE_SCALE = math.sqrt(2)  # a cosine of a uniform phase has the magnitude 1/√2 (Eq. 75)


def unit_rows(weight: Tensor) -> Tensor:
    """Scale each weight vector, weight[i], of [out, ...] to unit magnitude (Alg. 1).

    Gradients through it are orthogonal to the weight vector, that is, projected onto the sphere's tangent plane.
    """
    axes = tuple(range(1, weight.ndim))
    magnitude: Tensor = torch.linalg.vector_norm(weight, dim=axes, keepdim=True) / math.sqrt(weight[0].numel())
    return weight / (magnitude + EPS)


def pixel_norm(x: Tensor, dim: int) -> Tensor:
    """Scale the feature vector at each position, along `dim`, to unit magnitude; at least in float32."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    magnitude = wide.square().mean(dim=dim, keepdim=True).sqrt()
    return (wide / (magnitude + EPS)).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """silu(x)/0.596 (Eq. 81)."""
    return functional.silu(x) / SILU_MAGNITUDE


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """((1 - t) a + t b) / √((1 - t)² + t²) (Eq. 88): b contributes the share t."""
    norm = math.hypot(1 - t, t)
    return a * ((1 - t) / norm) + b * (t / norm)


def mp_cat(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Concatenate channels, [N, A, ...] and [N, B, ...], so that b contributes the share t whatever B is (Eq. 103)."""
    width_a, width_b = a.shape[1], b.shape[1]
    scale = math.sqrt((width_a + width_b) / ((1 - t) ** 2 + t**2))
    return torch.cat([a * (scale * (1 - t) / math.sqrt(width_a)), b * (scale * t / math.sqrt(width_b))], dim=1)


class UnitWeight(nn.Module):
    """The base of layers that use their weight only after scaling each weight vector to unit length (Eq. 47, 66).

    So they map inputs of unit magnitude to outputs of unit magnitude, have no bias, and do not depend on the length of
    the stored vectors: averages of weights, too, are scaled when they are used. Vectors are stored with unit magnitude;
    what keeps them so in training is forced weight normalization.
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(unit_rows(torch.randn(*shape)))

    def unit_weight(self, gain: Tensor | None = None) -> Tensor:
        """The weight with vectors of unit length, times a learned gain, [1], if there is one."""
        scaled = unit_rows(self.weight) / math.sqrt(self.weight[0].numel())
        return scaled if gain is None else scaled * gain

    @torch.no_grad()
    def normalize_(self) -> None:
        """Scale the stored vectors to unit magnitude: Alg. 1's forced weight normalization."""
        weight: Tensor = self.weight.detach()
        if isinstance(weight, DTensor):  # whole vectors, some of which lie in this process, or none
            weight = weight.to_local()
        weight.copy_(unit_rows(weight) if len(weight) else weight)


class Conv(UnitWeight):
    """A convolution that keeps the size of the image, [N, C, H, W] to [N, C', H, W]."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(out_channels, in_channels, kernel, kernel)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """Convolve x [N, C, H, W] with zeros beyond its edges."""
        return functional.conv2d(x, self.unit_weight(gain), padding=self.weight.shape[-1] // 2)


class Linear(UnitWeight):
    """A linear layer on the last axis."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(out_features, in_features)

    def forward(self, x: Tensor, gain: Tensor | None = None) -> Tensor:
        """Map [..., C] to [..., C']."""
        return functional.linear(x, self.unit_weight(gain))


class ClassEmbedding(UnitWeight):
    """A linear layer on one-hot vectors times √num_classes, which have unit magnitude."""

    def __init__(self, num_classes: int, out_features: int) -> None:
        super().__init__(out_features, num_classes)

    def forward(self, labels: Tensor) -> Tensor:
        """Map labels, int64 [N], to [N, C]."""
        # the product with √num_classes one_hot(labels), without making one
        return functional.embedding(labels, unit_rows(self.weight).t())


class FourierFeatures(nn.Module):
    """√2 cos(2π (f c + φ)) with f ~ N(0, 1) and φ ~ U(0, 1), drawn once and stored with the weights (Eq. 75)."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(num_features))
        self.register_buffer("phases", torch.rand(num_features))

    def forward(self, c: Tensor) -> Tensor:
        """Map c [N] to [N, num_features]."""
        turns = c.to(self.frequencies.dtype)[:, None] * self.frequencies + self.phases
        return FEATURE_SCALE * torch.cos(2 * math.pi * turns)
