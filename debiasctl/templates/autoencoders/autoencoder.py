"""An autoencoder."""

from collections.abc import Mapping
from typing import Any

import torch
from debiasctl.api import (
    Autoencoder,
    LatentShape,
    LoadedDataset,
    ModelError,
    PluginOptions,
    PreparedAutoencoder,
    UsageError,
)
from pydantic import Field
from torch import Tensor
from torch.nn import functional

# rows: mean, and differences across columns, across rows and across both, of the pixels of a 2x2 block
HAAR = ((1, 1, 1, 1), (1, -1, 1, -1), (1, 1, -1, -1), (1, -1, -1, 1))


class PreparedHaar(PreparedAutoencoder):
    """The transform with its orthonormal matrix [4, 4], applied `levels` times over."""

    def __init__(self, matrix: Tensor, *, levels: int) -> None:
        self.matrix, self.levels = matrix, levels

    def state(self) -> dict[str, Tensor]:
        """Return the matrix, which a run stores with its weights."""
        return {"matrix": self.matrix}

    def settings(self) -> dict[str, Any]:
        """Return the number of levels."""
        return {"levels": self.levels}

    def encode(self, images: Tensor) -> Tensor:
        """Map float32 images [N, C, H, W] to latents [N, 4^levels C, H/2^levels, W/2^levels]."""
        latents = images
        for _ in range(self.levels):
            blocks = torch.unflatten(functional.pixel_unshuffle(latents, 2), 1, (-1, 4))  # [N, C, 4, H/2, W/2]
            latents = torch.einsum("kb,ncbhw->nckhw", self.matrix, blocks).flatten(1, 2)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Map latents back to images [N, C, H, W]: the inverse of `encode`."""
        images = latents
        for _ in range(self.levels):
            blocks = torch.einsum("kb,nckhw->ncbhw", self.matrix, torch.unflatten(images, 1, (-1, 4)))
            images = functional.pixel_shuffle(blocks.flatten(1, 2), 2)
        return images


class MyAutoencoder(Autoencoder):
    """Haar's wavelet transform, which loses nothing: 2x2 pixels become 4 channels, once for each level.

    The transform is orthonormal, so that errors of latents are as large as those of the images they stand for.
    """

    class Options(PluginOptions):
        """The options of the transform."""

        levels: int = Field(1, ge=1, le=6, description="how often height and width are halved")

    options: Options

    def latent_shape(self, image_size: int, channels: int) -> LatentShape:
        """Return the shape [4^levels C, size/2^levels, size/2^levels].

        Raises:
            UsageError: if the image cannot be halved that often.
        """
        levels = self.options.levels
        if image_size % 2**levels:
            raise UsageError(
                f"levels={levels} needs a height and width that {2**levels} divides, and images have {image_size} "
                "pixels a side. Choose fewer levels, or another image size"
            )
        return LatentShape(4**levels * channels, image_size // 2**levels)

    def prepare(self, data: LoadedDataset | None, *, device: torch.device) -> PreparedHaar:
        """Make the transform, which depends on no images."""
        matrix = torch.tensor(HAAR, dtype=torch.float32, device=device) / 2
        return PreparedHaar(matrix, levels=self.options.levels)

    def restore(
        self, state: Mapping[str, Tensor], settings: Mapping[str, Any], *, device: torch.device
    ) -> PreparedHaar:
        """Make the transform of a run again.

        Raises:
            ModelError: if the matrix or the number of levels is missing.
        """
        matrix, levels = state.get("matrix"), settings.get("levels")
        if matrix is None or matrix.shape != (4, 4) or not isinstance(levels, int):
            raise ModelError("the stored Haar transform has no 4x4 matrix, or no number of levels")
        return PreparedHaar(matrix.to(device), levels=levels)
