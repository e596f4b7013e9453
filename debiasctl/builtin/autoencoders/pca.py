"""Principal components of patches: a small autoencoder that is fitted to the training images."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from debiasctl.api import (
    Autoencoder,
    LatentShape,
    LoadedDataset,
    ModelError,
    PluginOptions,
    PreparedAutoencoder,
    UsageError,
    spread_indices,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_MOST_IMAGES = 50_000  # that it is fitted to, evenly spread over the training images
_CHUNK = 500  # images at a time


class PreparedPCA(PreparedAutoencoder):
    """Latents are the coordinates of an image's patches: `mean` [P] and orthonormal `components` [P, K], in float64.

    A patch's P = C * patch² values are ordered by channel, row and column.
    """

    def __init__(self, mean: "Tensor", components: "Tensor", *, patch: int) -> None:
        self._mean, self._components, self._patch = mean, components, patch

    def state(self) -> "dict[str, Tensor]":
        """The mean patch and the components."""
        return {"mean": self._mean, "components": self._components}

    def settings(self) -> dict[str, Any]:
        """The size of a patch."""
        return {"patch": self._patch}

    def encode(self, images: "Tensor") -> "Tensor":
        """Project patches: float32 [N, C, H, W] to float32 [N, K, H/patch, W/patch]."""
        found = (_patches(images.double(), self._patch) - self._mean) @ self._components
        return found.permute(0, 3, 1, 2).float()

    def decode(self, latents: "Tensor") -> "Tensor":
        """The images nearest to those that have these latents, float32 [N, C, H, W]."""
        rows = latents.double().permute(0, 2, 3, 1) @ self._components.T + self._mean
        num, height, width, _ = rows.shape
        size = self._patch
        parts = rows.reshape(num, height, width, -1, size, size).permute(0, 3, 1, 4, 2, 5)
        return parts.reshape(num, -1, height * size, width * size).float()


class PCA(Autoencoder):
    """Principal components of image patches, fitted to the training images (needs no download).

    Each patch of `patch` x `patch` pixels becomes one position of the latent, whose channels are its coordinates along
    the `components` directions in which patches vary most: the linear autoencoder with the smallest squared error.
    The fit is in float64, and sums of 8-bit values are exact whatever their order. It is a small stand-in for a
    learned autoencoder: it blurs detail and knows no more than neighbouring pixels.
    """

    class Options(PluginOptions):
        """The options of the patches."""

        patch: int = Field(4, ge=1, le=64, description="pixels a side of a patch, which must divide the image's")
        components: int = Field(16, ge=1, le=4096, description="values kept of each patch")

    options: Options

    def latent_shape(self, image_size: int, channels: int) -> LatentShape:
        """Return the shape [components, image_size / patch, image_size / patch].

        Raises:
            UsageError: if patches do not tile the image, or have fewer values than there are components.
        """
        patch, components = self.options.patch, self.options.components
        if image_size % patch:
            fitting = [str(size) for size in range(1, min(image_size, 64) + 1) if image_size % size == 0]
            raise UsageError(
                f"autoencoder 'pca': patch={patch} does not divide images of {image_size} pixels a side. Choose a "
                f"patch of {', '.join(fitting)}, or another image size"
            )
        values = channels * patch**2
        if components > values:
            raise UsageError(
                f"autoencoder 'pca': components={components} is more than the {values} values that a patch of "
                f"{patch}x{patch} pixels has. Choose at most {values}"
            )
        return LatentShape(components, image_size // patch)

    def prepare(self, data: LoadedDataset | None, *, device: "torch.device") -> PreparedPCA:
        """Fit mean and components to the patches of up to 50,000 training images.

        A component's sign is such that its entry of largest magnitude is positive.

        Raises:
            UsageError: if there are no images.
        """
        import torch

        if data is None:
            raise UsageError("autoencoder 'pca' is fitted to images, and there are none. Choose another autoencoder")
        self.latent_shape(data.info.image_size, data.info.channels)
        total, products, count = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64), 0
        eight_bits = data.info.value_type == "uint8"
        for chunk in torch.split(spread_indices(len(data.train), _MOST_IMAGES), _CHUNK):
            rows = _patches(data.train.images(chunk).double(), self.options.patch).flatten(0, 2)
            total, products, count = total + rows.sum(dim=0), products + rows.T @ rows, count + len(rows)
        mean = total / count
        covariance = products / count - torch.outer(mean, mean)
        if eight_bits:  # summed as whole numbers, which float64 holds exactly
            mean, covariance = mean / 127.5 - 1, covariance / 127.5**2
        vectors = torch.linalg.eigh(covariance)[1].flip(1)[:, : self.options.components]
        peaks = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
        components = (vectors * peaks.sign()).contiguous()
        return PreparedPCA(mean.to(device), components.to(device), patch=self.options.patch)

    def restore(
        self, state: "Mapping[str, Tensor]", settings: Mapping[str, Any], *, device: "torch.device"
    ) -> PreparedPCA:
        """Make it again from the mean and the components.

        Raises:
            ModelError: if they do not fit together.
        """
        mean, components, patch = state.get("mean"), state.get("components"), settings.get("patch")
        if mean is None or components is None or not isinstance(patch, int) or len(mean) != len(components):
            raise ModelError("the mean and the components of the PCA autoencoder do not fit together")
        return PreparedPCA(mean.to(device), components.to(device), patch=patch)


def _patches(images: "Tensor", size: int) -> "Tensor":
    """The patches of images [N, C, H, W], as rows [N, H/size, W/size, C * size²]."""
    num, channels, height, width = images.shape
    parts = images.reshape(num, channels, height // size, size, width // size, size)
    return parts.permute(0, 2, 4, 1, 3, 5).reshape(num, height // size, width // size, -1)
