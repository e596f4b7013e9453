"""What is measured of images, one by one: read in batches, so that a batch of images is all that lies in memory."""

import logging
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, PreparedFeatures, Split
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.colour import mean_colours, mean_squares
from debiasctl.evaluation.jackknife import Division
from debiasctl.evaluation.reference import spread_indices
from debiasctl.evaluation.spectrum import radial_power
from debiasctl.files import atomic_file, content_key

_LOG = logging.getLogger(__name__)
VERSION = 1
EXTRAS = ("logits", "spatial")  # optional methods of extractors
Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class PixelStatistics:
    """Each image's mean colour and mean squared pixel in [-1, 1], and its power at 1, 2, … cycles an image; float64."""

    colours: Tensor  # [N, C]
    squares: Tensor  # [N, C]
    power: Tensor  # [N, size // 2]

    def take(self, indices: Tensor) -> "PixelStatistics":
        """Of these images."""
        return PixelStatistics(*(tensor[indices] for tensor in vars(self).values()))


@dataclass(frozen=True)
class Observed:
    """N images as an extractor and the eye see them.

    `features` are float [N, D], `division` the jackknife's; `pixels` are there where they were asked for, `logits`
    [N, K] and `spatial` features [N, E] where the extractor gives them too.
    """

    shape: Shape
    features: Tensor
    pixels: PixelStatistics | None
    division: Division
    logits: Tensor | None = None
    spatial: Tensor | None = None

    def __len__(self) -> int:
        return len(self.features)

    def take(self, indices: Tensor) -> "Observed":
        """Of these images."""
        logits, spatial = (None if extra is None else extra[indices] for extra in (self.logits, self.spatial))
        pixels = None if self.pixels is None else self.pixels.take(indices)
        division = self.division.take(indices)
        return Observed(self.shape, self.features[indices], pixels, division, logits, spatial)


def observe(
    images: Split,
    features: PreparedFeatures,
    *,
    indices: Tensor | None = None,
    extras: Collection[str] = (),
    pixels: bool = True,
    batch_size: int = 256,
    check_shape: Callable[[Shape], None] = lambda shape: None,
) -> Observed:
    """Read `images` (those at `indices`; all of them without) once, in batches.

    Beside the features it finds `extras` of `EXTRAS` and, unless told otherwise, the `pixels`' statistics.
    `check_shape` is called with the images' channels, height and width before the extractor sees them. The counts of
    the classes that a split has labels for are taken as chosen (`Division`).

    Raises:
        EvaluationError: fewer than 2 images, images that are not uint8 [N, C, H, W] of one shape, or an extractor that
        gives another shape than it states, or values that are not finite.
    """
    indices = torch.arange(len(images)) if indices is None else indices
    if len(indices) < 2:
        raise EvaluationError(f"a distance needs at least 2 images, not {len(indices)}. Give more of them")
    rows: dict[str, list[Tensor]] = {"features": [], **{name: [] for name in extras}}
    statistics: list[PixelStatistics] = []
    shape: Shape | None = None
    for part in torch.split(indices, batch_size):
        batch = _checked_images(images.images(part), shape)
        channels, height, width = batch.shape[1:]
        shape = (channels, height, width)
        check_shape(shape)
        for name, found in rows.items():
            method = features if name == "features" else getattr(features, name)
            found.append(_checked_rows(method(batch), len(batch), features.dimension if name == "features" else None))
        if pixels:
            statistics.append(_pixel_statistics(batch))
    assert shape is not None, "there are images"
    joined = {name: torch.cat(found) for name, found in rows.items()}
    division = Division.of(len(indices), images.labels(indices))
    of_pixels = _joined(statistics) if pixels else None
    return Observed(shape, joined["features"], of_pixels, division, joined.get("logits"), joined.get("spatial"))


def real_pixels(data: LoadedDataset, *, cache_dir: Path, max_images: int, batch_size: int) -> list[PixelStatistics]:
    """Of up to `max_images` training and as many held-out images, evenly spread; from `cache_dir/references`.

    They depend on no extractor. A damaged cache file is made again, with a warning.
    """
    splits = {"train": data.train, "heldout": data.heldout}
    counts = {name: len(split) for name, split in splits.items()}
    key = content_key({"dataset": data.content_hash, "splits": counts, "max_images": max_images, "version": VERSION})
    path = cache_dir / "references" / f"pixels-{key}.npz"
    cached = _read(path)
    if cached is not None:
        return cached
    made = []
    for split in splits.values():
        parts = torch.split(spread_indices(len(split), max_images), batch_size)
        made.append(_joined([_pixel_statistics(split.images(part)) for part in parts if len(part)] or [_none(data)]))
    with atomic_file(path) as stream:
        arrays: dict[str, Any] = {
            f"{name}_{field}": tensor.numpy()
            for name, statistics in zip(splits, made, strict=True)
            for field, tensor in vars(statistics).items()
        }
        np.savez(stream, **arrays)
    return made


def _pixel_statistics(batch: Tensor) -> PixelStatistics:
    return PixelStatistics(mean_colours(batch), mean_squares(batch), radial_power(batch))


def _none(data: LoadedDataset) -> PixelStatistics:
    colours = torch.empty(0, data.info.channels, dtype=torch.float64)
    return PixelStatistics(colours, colours, torch.empty(0, data.info.image_size // 2, dtype=torch.float64))


def _joined(parts: list[PixelStatistics]) -> PixelStatistics:
    return PixelStatistics(*(torch.cat(tensors) for tensors in zip(*(vars(p).values() for p in parts), strict=True)))


def _read(path: Path) -> list[PixelStatistics] | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:  # each member's CRC-32 is checked as it is read
            return [
                PixelStatistics(
                    *(torch.from_numpy(archive[f"{name}_{field}"]) for field in ("colours", "squares", "power"))
                )
                for name in ("train", "heldout")
            ]
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        _LOG.warning("the cached statistics %s are damaged (%s); making them again", path, error)
        return None


def _checked_images(batch: Tensor, shape: Shape | None) -> Tensor:
    if batch.is_floating_point() and not batch.isfinite().all():
        raise EvaluationError("the images hold NaN or infinity. Images must be uint8 [N, C, H, W]")
    if batch.dtype != torch.uint8 or batch.ndim != 4:
        raise EvaluationError(f"images must be uint8 [N, C, H, W], not {batch.dtype} {list(batch.shape)}")
    if shape is not None and tuple(batch.shape[1:]) != shape:
        raise EvaluationError(f"images must be of one shape; these are {list(shape)} and {list(batch.shape[1:])}")
    return batch.cpu()


def _checked_rows(rows: Tensor, num: int, dimension: int | None) -> Tensor:
    rows = rows.to(device="cpu", dtype=torch.float64)
    if rows.ndim != 2 or len(rows) != num or dimension not in (None, rows.shape[1]):
        raise EvaluationError(
            f"the feature extractor gave {list(rows.shape)} for {num} images and states the dimension {dimension}"
        )
    if not rows.isfinite().all():
        raise EvaluationError("the feature extractor gave NaN or infinity")
    return rows
