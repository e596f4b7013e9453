"""Images drawn from a mixture of Gaussians, whose best denoiser is known in closed form."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from debiasctl.api import (
    ArraySplit,
    DataLocation,
    Dataset,
    DatasetInfo,
    GaussianMixture,
    LoadedDataset,
    PluginOptions,
    UsageError,
    hash_splits,
)

# the paper's process (eps, linear schedule, no labels) with a transformer that trains in about a minute on a CPU
RECOMMENDED: dict[str, Any] = {
    "data": {"horizontal_flip": False},
    "model": {"backbone": "dit:patch_size=4,hidden_size=96,depth=4", "prediction": "eps", "conditional": False},
    "diffusion": {"schedule": "linear"},
    "optimizer": {"lr": 2e-3, "warmup_steps": 100, "decay": "cosine", "weight_decay": 0.0, "clip_grad_norm": 1.0},
    "ema": {"decay": 0.99},
    "training": {"steps": 800, "batch_size": 128, "checkpoint_every": 200, "heldout_every": 400},
}

Channels = Annotated[Literal[1, 3], BeforeValidator(lambda value: {"1": 1, "3": 3}.get(value, value))]
_HELDOUT_SHARE = 4  # one held-out image for so many training images
_WITHIN = 5.0  # deviations that fit between a mean image and the ends of [-1, 1]: at most 3 values in 10⁷ are clipped
_COLOUR = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)  # brightness and two opponent colours
_COLOUR_POWER = (1.0, 0.15, 0.05)
_PATTERN = 3.0  # exponent with which a mean image's amplitude falls with frequency
_CHUNK = 1024
_TRAIN, _HELDOUT, _LAW, _ORDER = 0, 1, 2, 3  # purposes of random numbers


class GaussianMixtureImages(Dataset):
    """Coloured noise around a smooth mean image per class: a Gaussian mixture whose E[x0 | x_t] is known exactly.

    Each class is one Gaussian. Its covariance is diagonal in the cosine basis (DCT-II) of rows and columns and in
    brightness and opponent colours, with power falling with frequency as in photographs. Values are rounded to uint8;
    at most 3 in 10 million are clipped. With it `debiasctl analyze` separates what a network could have learned from
    what nobody can know.
    """

    class Options(PluginOptions):
        """The options of gaussian-mixture."""

        image_size: int = Field(16, ge=8, le=256, multiple_of=4, description="height and width, in pixels")
        channels: Channels = Field(3, description="1 for grey images, 3 for colour")
        components: int = Field(4, ge=1, le=100, description="number of Gaussians, which are the classes")
        deviation: float = Field(
            0.1,
            gt=0,
            le=0.18,
            description="standard deviation of a value around its mean image, times 0.6 to 1",
        )
        contrast: float = Field(
            1.0, ge=0, le=1, description="strength of the mean images, as a part of what fits into [-1, 1]"
        )
        spectrum: float = Field(2.0, ge=0, le=4, description="exponent with which power falls with frequency")
        num: int = Field(4096, ge=8, le=1_000_000, description="training images; a quarter as many are held out")
        seed: int = Field(0, ge=0, description="seed of the mixture and of the images")

    options: Options

    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the facts, which follow from the options."""
        options = self.options
        names = tuple(f"component-{number}" for number in range(options.components))
        counts = tuple(len(range(number, options.num, len(names))) for number in range(len(names)))
        heldout = options.num // _HELDOUT_SHARE
        return DatasetInfo(options.image_size, options.channels, names, options.num, heldout, class_counts=counts)

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Settings for a run of about a minute on two CPU cores at the default size."""
        return RECOMMENDED

    def load(self, location: DataLocation) -> LoadedDataset:
        """Draw the images.

        Raises:
            UsageError: if a deviation this large leaves no room for mean images.
        """
        info, density = self.info(location), self.density()
        train = self._drawn(density, info.num_train, _TRAIN)
        heldout = self._drawn(density, info.num_heldout, _HELDOUT)
        content_hash = hash_splits({"name": "gaussian-mixture", "classes": info.classes}, [train, heldout])
        return LoadedDataset(info, train, heldout, content_hash, density=density)

    def density(self) -> GaussianMixture:
        """The law of the images before they are rounded.

        Raises:
            UsageError: if a deviation this large leaves no room for mean images.
        """
        options = self.options
        size, num = options.image_size, options.components
        shape = (num, options.channels, size, size)
        rng = self._rng(_LAW)
        half_cycles = torch.arange(size, dtype=torch.float64)
        frequency = torch.hypot(half_cycles[:, None], half_cycles)
        power = torch.tensor(_COLOUR_POWER[: options.channels]).double()[:, None, None] * (1 + frequency).pow(
            -options.spectrum
        )
        variances = power / power.mean(dim=(1, 2)).sum() * options.channels * options.deviation**2
        strengths = torch.from_numpy(rng.uniform(0.6, 1.0, size=num))[:, None, None, None]
        amplitudes = (1 + frequency).pow(-_PATTERN) * torch.from_numpy(rng.standard_normal(shape))
        unscaled = GaussianMixture(
            torch.full((num,), 1 / num, dtype=torch.float64),
            amplitudes,
            variances * strengths.square(),
            _basis(options.channels, size),
            torch.arange(num),
        )
        room = 1 - _WITHIN * float(unscaled.pixel_variances().max().sqrt())
        if room <= 0:
            raise UsageError(
                f"gaussian-mixture: with deviation={options.deviation:g} and spectrum={options.spectrum:g} some values "
                f"would be beyond [-1, 1] within {_WITHIN:g} standard deviations even without a mean image. Lower the "
                "deviation"
            )
        means = unscaled.images(amplitudes)
        means = means * (options.contrast * room / means.abs().amax(dim=(1, 2, 3), keepdim=True))
        return replace(unscaled, means=means)

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.options.seed, *purpose])))

    def _drawn(self, density: GaussianMixture, num: int, purpose: int) -> ArraySplit:
        """Images rounded to uint8, of the classes in turn; more of them begin with the same whole turns.

        Each turn is in an order of its own, so that every fourth image, say, is not always of one class.
        """
        rng = self._rng(purpose)
        turns, rest = divmod(num, len(density.weights))
        orders = self._rng(purpose, _ORDER).permuted(np.tile(np.arange(len(density.weights)), (turns, 1)), axis=1)
        classes = torch.from_numpy(np.concatenate([orders.ravel(), np.arange(rest)]))
        images = torch.empty(num, *density.means.shape[1:], dtype=torch.uint8)
        for start in range(0, num, _CHUNK):
            which = classes[start : start + _CHUNK]
            noise = torch.from_numpy(rng.standard_normal((len(which), *density.means.shape[1:])))
            values = density.means[which] + density.images(density.variances[which].sqrt() * noise)
            images[start : start + len(which)] = ((values + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return ArraySplit(images, classes)


def _basis(channels: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    cosine = _cosine_basis(size)
    colour = _COLOUR / _COLOUR.norm(dim=1, keepdim=True) if channels == 3 else torch.ones(1, 1, dtype=torch.float64)
    return colour, cosine, cosine


def _cosine_basis(size: int) -> Tensor:
    """The orthonormal DCT-II, [size, size], a basis vector a row."""
    position = torch.arange(size, dtype=torch.float64)
    rows = torch.cos(math.pi / size * position[:, None] * (position + 0.5)) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows
