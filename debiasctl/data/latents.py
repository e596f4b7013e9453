"""A data set's latents, as a data set that training and analyses read in place of its images."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from debiasctl.api import ArraySplit, DatasetInfo, LatentScale, LoadedDataset, Split
from debiasctl.data.latent_cache import IN_MEMORY, Array, cached_latents
from debiasctl.data.pixels import to_model_space
from debiasctl.files import content_key

VERSION = 1  # of the encoding: increased when the same autoencoder would give other latents here
_MOST_AT_A_TIME, _PIXELS = 64, 2**20
_CHUNK = 1024  # latents at a time whose mean and deviation are measured

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LatentSplit:
    """Latents on disk [N, c, h, w], less `shift`, times `scale` [c, 1, 1]; `mirrored` are those of mirrored images."""

    latents: Array
    targets: Tensor | None
    shift: Tensor
    scale: Tensor
    mirrored: "LatentSplit | None" = None

    def __len__(self) -> int:
        return len(self.latents)

    def images(self, indices: Tensor) -> Tensor:
        """The latents at `indices`, float32 [N, c, h, w]."""
        return (torch.from_numpy(self.latents[indices.numpy()]) - self.shift) * self.scale

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return None if self.targets is None else self.targets[indices]


@dataclass(frozen=True)
class LatentArray(ArraySplit):
    """The same in memory."""

    mirrored: ArraySplit | None = field(default=None, kw_only=True)


def mirrored_of(split: Split) -> Split | None:
    """The latents of mirrored images, where a split of latents has them: mirroring a latent gives another image."""
    return split.mirrored if isinstance(split, LatentSplit | LatentArray) else None


@dataclass(frozen=True)
class _Both:
    """A split followed by its mirrored images."""

    split: Split
    mirrored: Split

    def __len__(self) -> int:
        return 2 * len(self.split)

    def images(self, indices: Tensor) -> Tensor:
        """The latents at `indices`, those of mirrored images from len(split) on."""
        places, is_mirrored = indices % len(self.split), indices >= len(self.split)
        pairs = self.split.images(places), self.mirrored.images(places)
        return torch.where(is_mirrored[:, None, None, None], pairs[1], pairs[0])

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels at `indices`, int64 [N], or None."""
        return self.split.labels(indices % len(self.split))


def with_mirrored(split: Split) -> Split:
    """The latents of a split's images followed by those of the mirrored ones, if it has these."""
    mirrored = mirrored_of(split)
    return split if mirrored is None else _Both(split, mirrored)


@dataclass(frozen=True)
class EncodedImages:
    """The latents of a data set's images as the autoencoder makes them, by split; `mirrored` only where asked for."""

    images: LoadedDataset
    info: DatasetInfo
    train: Array
    heldout: Array
    mirrored: Array | None

    def measured_scale(self) -> LatentScale:
        """The shift and the scale that give each channel mean 0 and deviation 1 over the training images."""
        total, squares = np.zeros(self.info.channels), np.zeros(self.info.channels)
        count = len(self.train) * self.info.image_size**2
        for start in range(0, len(self.train), _CHUNK):
            total += self.train[start : start + _CHUNK].astype(np.float64).sum(axis=(0, 2, 3))
        mean = total / count
        for start in range(0, len(self.train), _CHUNK):
            centred = self.train[start : start + _CHUNK].astype(np.float64) - mean[:, None, None]
            squares += np.square(centred).sum(axis=(0, 2, 3))
        std = np.sqrt(squares / count)
        return LatentScale(tuple(mean.tolist()), tuple((1 / np.where(std > 0, std, 1.0)).tolist()))

    def scaled(self, scale: LatentScale) -> LoadedDataset:
        """The data set that the network is trained on."""
        shift, factor = (_by_channel(values) for values in (scale.shift, scale.scale))
        mirrored = None if self.mirrored is None else _split(self.mirrored, None, shift, factor)
        return dataclasses.replace(
            self.images,
            info=self.info,
            train=_split(self.train, _labels(self.images.train), shift, factor, mirrored=mirrored),
            heldout=_split(self.heldout, _labels(self.images.heldout), shift, factor),
            density=None,
        )


def encode_images(
    data: LoadedDataset,
    encode: Encode,
    *,
    shape: tuple[int, int, int],
    autoencoder: str,
    maker: str,
    mirrored: bool,
    cache_dir: Path,
) -> EncodedImages:
    """Encode a data set's images, once: latents are kept in `cache_dir`, under a key of all that they depend on.

    `encode` maps float32 images to latents of `shape`, and `autoencoder` identifies what it depends on;
    `maker` names it in messages. With `mirrored`, training images are encoded a second time, mirrored.

    Raises:
        DataError: if an image cannot be read, or a latent is not finite; and the errors of `encode`.
    """
    key = content_key({"data": data.lasting_hash, "autoencoder": autoencoder, "version": VERSION})
    at_a_time = max(1, min(_MOST_AT_A_TIME, _PIXELS // data.info.image_size**2))

    def kept(name: str, split: Split, *, flip: bool = False) -> Array:
        def block(rows: range) -> Array:
            parts = torch.split(torch.arange(rows.start, rows.stop), at_a_time)
            return np.concatenate([_encoded(split.images(part), encode, flip=flip) for part in parts])

        folder = cache_dir / "latents" / key / name
        return cached_latents(folder, num=len(split), shape=shape, encode=block, maker=maker)

    channels, size, _ = shape
    info = dataclasses.replace(data.info, channels=channels, image_size=size, value_type="float32")
    return EncodedImages(
        data,
        info,
        kept("train", data.train),
        kept("heldout", data.heldout),
        kept("mirrored", data.train, flip=True) if mirrored else None,
    )


def _encoded(images: Tensor, encode: Encode, *, flip: bool) -> Array:
    x = to_model_space(images)
    found: Array = encode(x.flip(-1) if flip else x).float().cpu().numpy()
    return found


def _split(
    latents: Array,
    targets: Tensor | None,
    shift: Tensor,
    scale: Tensor,
    *,
    mirrored: "LatentSplit | LatentArray | None" = None,
) -> LatentSplit | LatentArray:
    if latents.nbytes > IN_MEMORY:
        assert not isinstance(mirrored, LatentArray), "as large as the split itself"
        return LatentSplit(latents, targets, shift, scale, mirrored)
    assert not isinstance(mirrored, LatentSplit), "as large as the split itself"
    return LatentArray((torch.from_numpy(latents) - shift) * scale, targets, mirrored=mirrored)


def _by_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None, None]


def _labels(split: Split) -> Tensor | None:
    return split.labels(torch.arange(len(split)))
