"""Principal components of pixels, and the extractor based on them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, PreparedFeatures, spread_indices
from debiasctl.builtin.features._support.preprocessing import model_space

VERSION = 1
MAX_IMAGES = 50_000
_CHUNK = 500


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
        """Compute features, float64 [N, dimension] on the CPU, for images, uint8 [N, C, H, W]."""
        chunks = [self._features(chunk.to(self._device)) for chunk in torch.split(images, _CHUNK)]
        return torch.cat(chunks).cpu()

    def _features(self, images: Tensor) -> Tensor:
        x = model_space(images, resolution=self._resolution, dtype=torch.float64)
        return (x.flatten(1) - self._mean) @ self._components


def principal_components(
    data: LoadedDataset, dimension: int, *, resolution: int
) -> tuple[dict[str, Tensor], float | None]:
    """Compute `mean` [P] and `components` [P, dimension] of up to 50,000 evenly spread training images.

    Also return the fraction of the variance that they explain (None if all images are equal). A component's sign is
    such that its entry of largest magnitude is positive.
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
    return {"mean": mean, "components": components * peaks.sign()}, explained
