"""Features that need no labels: the leading principal components of the training images' pixels."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import (
    EvaluationError,
    Features,
    LoadedDataset,
    PluginOptions,
    PreparedFeatures,
    UsageError,
    content_key,
    spread_indices,
)
from debiasctl.builtin.features._support.cache import cached_tensors
from debiasctl.builtin.features._support.preprocessing import model_space

VERSION = 1
_MAX_IMAGES = 50_000
_CHUNK = 500


class Pixels(Features):
    """The leading principal components of the training pixels, in float64: fd_pixels, kd_pixels. No network, no labels.

    Coordinates are centred at the training mean, in units of the model's space [-1, 1]. They see layout and colour,
    not meaning. Figures compare only between equal identities, and are no FID.
    """

    class Options(PluginOptions):
        """Options of the principal components."""

        dimension: int | None = Field(
            None, ge=1, le=2048, description="number of components; by default 32, or fewer where the data has fewer"
        )
        resolution: int = Field(32, ge=1, le=64, description="larger images are averaged down to this many pixels")

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: torch.device) -> "PreparedPixels":
        """The components, from `cache_dir/features/pixels` where they are there.

        Raises:
            UsageError: more components are asked for than the data has.
            EvaluationError: fewer than 2 training images.
        """
        if len(data.train) < 2:
            raise EvaluationError(f"principal components need at least 2 training images, not {len(data.train)}")
        num_images = min(len(data.train), _MAX_IMAGES)
        num_pixels = data.info.channels * min(data.info.image_size, self.options.resolution) ** 2
        most = min(num_images - 1, num_pixels)
        dimension = self.options.dimension or min(32, most)
        if dimension > most:
            raise UsageError(
                f"features 'pixels': dimension={dimension} is more than {num_images} images of {num_pixels} values "
                f"have. At most: {most}"
            )
        settings = {"dimension": dimension, "resolution": self.options.resolution, "version": VERSION}
        key = content_key({"dataset": data.content_hash, **settings})

        def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
            tensors, explained = principal_components(data, dimension, resolution=self.options.resolution)
            return tensors, {
                **settings,
                "dataset_hash": data.content_hash,
                "num_train": num_images,
                "explained_variance": explained,
            }

        tensors, manifest = cached_tensors(cache_dir / "features" / "pixels" / key, make)
        return PreparedPixels(tensors, manifest=manifest, device=device)


class PreparedPixels(PreparedFeatures):
    """A fixed linear map from pixels to principal components."""

    def __init__(self, tensors: Mapping[str, Tensor], *, manifest: Mapping[str, Any], device: torch.device) -> None:
        self._resolution: int = manifest["resolution"]
        preprocessing = {"space": "x/127.5-1", "area": self._resolution, "dtype": "float64", "version": VERSION}
        text = json.dumps({"components": manifest["sha256"], "preprocessing": preprocessing}, sort_keys=True)
        names = ("dimension", "resolution", "num_train", "explained_variance")
        super().__init__(
            identity=hashlib.sha256(text.encode()).hexdigest(),
            dimension=manifest["dimension"],
            details={name: manifest[name] for name in names},
        )
        self._device = device
        self._mean, self._components = tensors["mean"].to(device), tensors["components"].to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """float64 [N, dimension] on the CPU, for uint8 [N, C, H, W]."""
        chunks = [self._features(chunk.to(self._device)) for chunk in torch.split(images, _CHUNK)]
        return torch.cat(chunks).cpu()

    def _features(self, images: Tensor) -> Tensor:
        x = model_space(images, resolution=self._resolution, dtype=torch.float64)
        return (x.flatten(1) - self._mean) @ self._components


def principal_components(
    data: LoadedDataset, dimension: int, *, resolution: int
) -> tuple[dict[str, Tensor], float | None]:
    """`mean` [P] and `components` [P, dimension] of up to 50,000 training images spread evenly, and the fraction of the
    variance that they hold (None for images that are all the same).

    A component's sign is such that its entry of largest magnitude is positive.
    """
    indices = spread_indices(len(data.train), _MAX_IMAGES)
    total, products = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for chunk in torch.split(indices, _CHUNK):
        x = model_space(data.train.images(chunk), resolution=resolution, dtype=torch.float64).flatten(1)
        total, products = total + x.sum(dim=0), products + x.T @ x
    mean = total / len(indices)
    values, vectors = torch.linalg.eigh(products / len(indices) - torch.outer(mean, mean))
    components = vectors.flip(1)[:, :dimension]
    peaks = components.gather(0, components.abs().argmax(dim=0, keepdim=True))
    variance = values.clamp(min=0)
    explained = (variance[-dimension:].sum() / variance.sum()).item() if variance.sum() > 0 else None
    return {"mean": mean, "components": components * peaks.sign()}, explained
