"""Autoencoders: maps between images and the latents that a diffusion model is trained on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from debiasctl.api.datasets import LoadedDataset
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class LatentShape:
    """The shape of one latent, [channels, size, size]."""

    channels: int
    size: int


@dataclass(frozen=True)
class LatentScale:
    """What the network sees of latents: (latent - shift) * scale, with one shift and one scale for each channel."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]


class PreparedAutoencoder(ABC):
    """A frozen autoencoder, whose maps depend on its `state` and `settings` alone: they identify it."""

    @abstractmethod
    def state(self) -> "Mapping[str, Tensor]":
        """Return all tensors that its maps depend on, by name; a run stores them, and decodes with them anywhere."""

    def settings(self) -> Mapping[str, Any]:
        """Return what else its maps depend on, as JSON can hold it."""
        return {}

    def scale(self) -> LatentScale | None:
        """Return its own shift and scale; None has each channel standardised over the training images."""
        return None

    @abstractmethod
    def encode(self, images: "Tensor") -> "Tensor":
        """Map float32 images [N, C, H, W] in [-1, 1] to float32 latents [N, c, h, w], without shift and scale."""

    @abstractmethod
    def decode(self, latents: "Tensor") -> "Tensor":
        """Map latents [N, c, h, w] back to float32 images [N, C, H, W]; values outside [-1, 1] will be clipped."""


class Autoencoder(Plugin):
    """A map from images to latents and back, which is not trained with the diffusion model."""

    sigma_data: ClassVar[float] = 1.0  # standard deviation of its latents, after shift and scale
    bounded: ClassVar[bool] = False  # whether its latents lie in [-1, 1], so that samplers may clip estimates to it

    @abstractmethod
    def latent_shape(self, image_size: int, channels: int) -> LatentShape:
        """Return the shape of the latent of an image [channels, image_size, image_size], without reading any.

        Raises:
            UsageError: if it cannot encode images of this shape.
            ModelError: if a file that states the shape cannot be read.
        """

    @abstractmethod
    def prepare(self, data: LoadedDataset | None, *, device: "torch.device") -> PreparedAutoencoder:
        """Load its weights, or fit them to the training images `data.train`; they are computed with on `device`.

        `data` is None for a model from elsewhere, whose images are not at hand.

        Raises:
            UsageError: if it cannot be made from these images or without any, or a package is missing.
            ModelError: if its weights cannot be read.
        """

    @abstractmethod
    def restore(
        self, state: "Mapping[str, Tensor]", settings: Mapping[str, Any], *, device: "torch.device"
    ) -> PreparedAutoencoder:
        """Rebuild the one that returned this `state` and these `settings`, without the images or any other file.

        Raises:
            ModelError: if they do not fit together.
        """
