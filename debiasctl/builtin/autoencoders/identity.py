"""The autoencoder that leaves images as they are."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from debiasctl.api import Autoencoder, LatentScale, LatentShape, LoadedDataset, PreparedAutoencoder, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PreparedIdentity(PreparedAutoencoder):
    """Latents that are the images."""

    def __init__(self, channels: int) -> None:
        self._channels = channels

    def state(self) -> "dict[str, Tensor]":
        """No tensors."""
        return {}

    def settings(self) -> dict[str, Any]:
        """The number of channels."""
        return {"channels": self._channels}

    def scale(self) -> LatentScale:
        """None is needed: a shift of 0 and a scale of 1."""
        return LatentScale((0.0,) * self._channels, (1.0,) * self._channels)

    def encode(self, images: "Tensor") -> "Tensor":
        """Return the images."""
        return images

    def decode(self, latents: "Tensor") -> "Tensor":
        """Return the latents."""
        return latents


class Identity(Autoencoder):
    """No autoencoder: latents are the images, so a training is the same as without one, bit for bit.

    It takes the same paths as any other (encoding, the cache, decoding), and shows that they change nothing.
    """

    sigma_data = 0.5
    bounded = True

    def latent_shape(self, image_size: int, channels: int) -> LatentShape:
        """Return the shape of the image."""
        return LatentShape(channels, image_size)

    def prepare(self, data: LoadedDataset | None, *, device: "torch.device") -> PreparedIdentity:
        """Prepare it, which needs to know the number of channels alone.

        Raises:
            UsageError: if there are no images.
        """
        if data is None:
            raise UsageError(
                "autoencoder 'identity' needs the images. Leave it out: without one, images are trained on"
            )
        return PreparedIdentity(data.info.channels)

    def restore(
        self, state: "Mapping[str, Tensor]", settings: Mapping[str, Any], *, device: "torch.device"
    ) -> PreparedIdentity:
        """Make it again from its number of channels."""
        return PreparedIdentity(settings["channels"])
