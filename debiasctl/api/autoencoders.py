"""Autoencoders: maps between images and the latents that a diffusion model is trained on."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from debiasctl.api.datasets import LoadedDataset
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LatentShape:
    """The shape of one latent, [channels, size, size]."""

    channels: int
    size: int


class Autoencoder(Plugin):
    """A map from images to latents and back, which is not trained with the diffusion model."""

    @abstractmethod
    def latent_shape(self, image_size: int, channels: int) -> LatentShape:
        """Return the shape of the latent of an image, without reading any.

        Raises:
            UsageError: if it cannot encode images of this shape.
        """

    @abstractmethod
    def prepare(self, data: LoadedDataset) -> None:
        """Load its weights, or fit them to the training images `data.train`, before it is used.

        Raises:
            ModelError: if its weights cannot be read.
        """

    @abstractmethod
    def state(self) -> "dict[str, Tensor]":
        """Return all tensors that its maps depend on, by name; their SHA-256 identifies it."""

    @abstractmethod
    def encode(self, images: "Tensor") -> "Tensor":
        """Map float32 images [N, C, H, W] in [-1, 1] to latents [N, c, h, w], without scale and shift."""

    @abstractmethod
    def decode(self, latents: "Tensor") -> "Tensor":
        """Map latents [N, c, h, w] back to float32 images [N, C, H, W], of which values beyond [-1, 1] are clipped."""
