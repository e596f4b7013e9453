"""Principal components of pixels with the length of what they leave, and the extractor based on them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, PreparedFeatures, spread_indices
from debiasctl.builtin.features._support.preprocessing import model_space

VERSION = 2  # 2: with the length of the residual
MAX_IMAGES = 50_000
_CHUNK = 500


class PreparedPixels(PreparedFeatures):
    """A fixed map from pixels to principal components and the length of the residual that they leave.

    With the centred pixels x, the orthonormal components C and the residual r = x - C C^T x, the features are C^T x and
    |r| - mean |r|. Both have the unit of a pixel. The map never lengthens a distance, as | |r| - |r'| | <= |r - r'|,
    and (C^T x, |r|) is as long as x, so that no power of an image is lost.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, manifest: Mapping[str, Any], device: torch.device) -> None:
        self._resolution: int = manifest["resolution"]
        preprocessing = {"space": "x/127.5-1", "area": self._resolution, "dtype": "float64", "version": VERSION}
        text = json.dumps({"components": manifest["sha256"], "preprocessing": preprocessing}, sort_keys=True)
        names = ("dimension", "resolution", "num_train", "explained_variance")
        super().__init__(
            identity=hashlib.sha256(text.encode()).hexdigest(),
            dimension=manifest["dimension"] + len(tensors["residual"]),
            details={name: manifest[name] for name in names},
        )
        self._device = device
        self._mean, self._components, self._residual = (
            tensors[name].to(device) for name in ("mean", "components", "residual")
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features, float64 [N, dimension] on the CPU, for images, uint8 [N, C, H, W]."""
        chunks = [self._features(chunk.to(self._device)) for chunk in torch.split(images, _CHUNK)]
        return torch.cat(chunks).cpu()

    def _features(self, images: Tensor) -> Tensor:
        x = model_space(images, resolution=self._resolution, dtype=torch.float64).flatten(1) - self._mean
        found = x @ self._components
        if not len(self._residual):
            return found
        return torch.cat([found, _residual_lengths(x, found, self._components) - self._residual], dim=1)


def _residual_lengths(x: Tensor, coordinates: Tensor, components: Tensor) -> Tensor:
    """The length [N, 1] of what centred pixels x [N, P] have outside the components."""
    rest: Tensor = x - coordinates @ components.T
    lengths: Tensor = torch.linalg.vector_norm(rest, dim=1, keepdim=True)
    return lengths


def principal_components(
    data: LoadedDataset, dimension: int, *, resolution: int
) -> tuple[dict[str, Tensor], float | None]:
    """Compute `mean` [P], `components` [P, dimension] and the `residual`, for up to 50,000 evenly spread images.

    `residual` [1] is the mean length of what the components leave; it is empty if they leave nothing of any image. Also
    return the fraction of the variance that they explain (None if all images are equal). A component's sign is such
    that its entry of largest magnitude is positive.
    """
    indices = spread_indices(len(data.train), MAX_IMAGES)
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
    components = components * peaks.sign()
    residual = torch.zeros(0, dtype=torch.float64)
    if dimension < len(mean):
        lengths = []
        for chunk in torch.split(indices, _CHUNK):
            x = model_space(data.train.images(chunk), resolution=resolution, dtype=torch.float64).flatten(1) - mean
            lengths.append(_residual_lengths(x, x @ components, components))
        residual = torch.cat(lengths).mean(dim=0)
    return {"mean": mean, "components": components, "residual": residual}, explained
