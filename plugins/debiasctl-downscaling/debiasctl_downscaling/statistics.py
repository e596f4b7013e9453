"""Sums over images from which the metrics follow, so that leaving out some images costs a subtraction."""

import math
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Literal, Self

import numpy as np
import torch
from torch import Tensor

Spectrum = Literal["rows", "columns", "rings"]
BINS = 256
_MARGINALS = 1024  # values of an image whose marginals are compared, evenly spread


@dataclass(frozen=True)
class Frame:
    """What two sets of images are measured on alike: the bins of the marginals, and the kind of spectrum."""

    low: float
    high: float
    spectrum: Spectrum

    @classmethod
    def of(cls, *sets: Tensor, spectrum: Spectrum) -> Self:
        """The frame whose bins hold all values of these images."""
        return cls(min(float(one.min()) for one in sets), max(float(one.max()) for one in sets), spectrum)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return max(self.high - self.low, 1e-12) / BINS


@dataclass(frozen=True)
class Sums:
    """Sums over `number` images [C, H, W], float64.

    `pixels` [C·H·W]; `rows` [H, H] and `columns` [W, W] of products of two rows' or columns' values; `energy` [K] of
    squared Fourier coefficients from frequency 1; `counts` [marginals, BINS] of the values in each bin.
    """

    number: Tensor
    pixels: Tensor
    rows: Tensor
    columns: Tensor
    energy: Tensor
    counts: Tensor

    @classmethod
    def of(cls, images: Tensor, frame: Frame) -> Self:
        """The sums over images [N, C, H, W]."""
        x = images.double()
        flat = x.flatten(1)
        chosen = flat[:, torch.arange(min(_MARGINALS, flat.shape[1])) * flat.shape[1] // min(_MARGINALS, flat.shape[1])]
        bins = ((chosen - frame.low) / frame.width).long().clamp(0, BINS - 1)
        counts = torch.zeros(chosen.shape[1], BINS, dtype=torch.float64)
        counts.scatter_add_(1, bins.T, torch.ones_like(bins.T, dtype=torch.float64))
        return cls(
            torch.tensor(float(len(x)), dtype=torch.float64),
            flat.sum(dim=0),
            torch.einsum("nchw,ncgw->hg", x, x),
            torch.einsum("nchw,nchv->wv", x, x),
            energies(x, frame.spectrum).sum(dim=0),
            counts,
        )

    @classmethod
    def stacked(cls, groups: "list[Sums]") -> Self:
        """The sums over each of several groups, with a first dimension for the groups."""
        return cls(*(torch.stack([getattr(group, one.name) for group in groups]) for one in fields(cls)))

    def over(self, weights: Tensor) -> "Sums":
        """The sum over groups with weights [G], of stacked sums."""
        return Sums(*(torch.tensordot(weights, getattr(self, one.name), dims=1) for one in fields(self)))

    def without(self, group: int, whole: "Sums") -> "Sums":
        """What is left of the `whole` of stacked sums without one group."""
        return Sums(*(getattr(whole, one.name) - getattr(self, one.name)[group] for one in fields(self)))

    @property
    def groups(self) -> int:
        """The number of groups of stacked sums."""
        return len(self.number)

    def covariances(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The covariances between rows, [H, H], and between columns, [W, W], averaged over all else."""
        channels, height, width = shape
        mean = (self.pixels / self.number).reshape(shape)
        rows = self.rows / self.number - torch.einsum("chw,cgw->hg", mean, mean)
        columns = self.columns / self.number - torch.einsum("chw,chv->wv", mean, mean)
        return rows / (channels * width), columns / (channels * height)


def energies(x: Tensor, kind: Spectrum) -> Tensor:
    """The energy at each frequency from 1, [N, K], of images [N, C, H, W].

    `rows` transforms along the rows' axis (a column of pixels), `columns` along the other; `rings` in both, with the
    energy summed over rings of the wave vector's length, in cycles over the image's height, up to half its pixels.
    """
    if kind != "rings":
        axis = 2 if kind == "rows" else 3
        waves: Tensor = torch.fft.rfft(x, dim=axis, norm="forward")
        return waves.abs().square().mean(dim=(1, 5 - axis))[:, 1:]
    height, width = x.shape[2:]
    squares = torch.fft.fft2(x, norm="forward").abs().square().mean(dim=1).flatten(1)
    length = torch.hypot(torch.fft.fftfreq(height)[:, None] * height, torch.fft.fftfreq(width) * height).flatten()
    ring = length.round().long()
    largest = height // 2
    found = torch.zeros(len(x), int(ring.max()) + 1, dtype=x.dtype)
    found.index_add_(1, ring, squares)
    return found[:, 1 : largest + 1]


def covariance_rmse(shape: tuple[int, ...], sample: Sums, true: Sums) -> float:
    """The relative Frobenius error of the covariances of rows and of columns: the root of the mean of their squares."""
    pairs = zip(sample.covariances(shape), true.covariances(shape), strict=True)
    squares = [float((one - other).square().sum() / other.square().sum().clamp(min=1e-300)) for one, other in pairs]
    return math.sqrt(sum(squares) / len(squares))


def log_energy_ratios(sample: Sums, true: Sums) -> tuple[Tensor, Tensor]:
    """|log(E_sample(k)/E_true(k))| and E_true(k), [K]; energies below 1e-30 of the largest count as that."""
    one, other = sample.energy / sample.number, true.energy / true.number
    least = float(torch.maximum(one.max(), other.max())) * 1e-30 or 1e-300
    return (one.clamp(min=least) / other.clamp(min=least)).log().abs(), other


def melr(sample: Sums, true: Sums) -> float:
    """The mean over frequencies of |log(E_sample(k)/E_true(k))| (arXiv 2305.15618, §4)."""
    return float(log_energy_ratios(sample, true)[0].mean())


def weighted_melr(sample: Sums, true: Sums) -> float:
    """The mean of |log(E_sample(k)/E_true(k))| with weights E_true(k)/sum E_true."""
    ratios, energy = log_energy_ratios(sample, true)
    return float((ratios * energy).sum() / energy.sum().clamp(min=1e-300))


def wasserstein(frame: Frame, sample: Sums, true: Sums) -> float:
    """The Wasserstein-1 distance of the marginals, mean over pixels: the area between distribution functions."""
    one, other = (one.counts.cumsum(dim=1) / one.number for one in (sample, true))
    return float((one - other).abs().sum(dim=1).mean()) * frame.width


def smoothing(frame: Frame, true: Sums) -> Tensor:
    """The matrix [BINS, BINS] of a Gaussian kernel with Scott's bandwidth for the true images, pixels averaged."""
    centres = (torch.arange(BINS, dtype=torch.float64) + 0.5) * frame.width
    density = true.counts / true.number
    mean = density @ centres
    deviation = ((density @ centres.square()) - mean.square()).clamp(min=0).sqrt().mean()
    bandwidth = max(1.059 * float(deviation) * float(true.number) ** -0.2, frame.width)
    kernel: Tensor = torch.exp(-(centres[:, None] - centres).square() / (2 * bandwidth**2))
    kernel /= bandwidth * math.sqrt(2 * math.pi)
    return kernel


def divergence(kernel: Tensor, frame: Frame, sample: Sums, true: Sums) -> float:
    """KL(true || sample) of the marginals by kernel density estimates of one bandwidth, mean over pixels."""
    one, other = (one.counts / one.number @ kernel for one in (sample, true))
    least = 1e-10 * float(other.max())  # where the sample has no value at all
    ratio = other.clamp(min=least) / one.clamp(min=least)
    return float((other * ratio.log()).sum(dim=1).mean()) * frame.width


def split(number: int, groups: int) -> list[slice]:
    """Slices of 0 … number - 1 into even groups."""
    edges = np.linspace(0, number, groups + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]
