"""What samples are measured against: features and colours of real images, computed once and cached."""

import logging
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset, PreparedFeatures, Split
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.colour import mean_colours
from debiasctl.evaluation.distances import covariance_root, gaussian_moments, kernel_self_mean
from debiasctl.evaluation.statistics_file import StatisticsFile
from debiasctl.files import atomic_file, content_key

_LOG = logging.getLogger(__name__)
VERSION = 2
MAX_IMAGES = 50_000


@dataclass(frozen=True)
class Reference:
    """Real images in a feature space, all float64 on the CPU: N training images and M held-out ones.

    `root` is the covariance's symmetric root: whoever compares with one reference again and again needs it each time.
    `kernel_self` is the mean kernel between different training images. Colours are mean colours in [-1, 1]. Of
    statistics from a file there are the mean, the covariance and its root alone; the rest is None, or empty for M.
    """

    mean: Tensor  # [D]
    covariance: Tensor  # [D, D]
    root: Tensor  # [D, D]
    features: Tensor | None  # [N, D]
    kernel_self: Tensor | None  # []
    colours: Tensor | None  # [N, C]
    heldout_features: Tensor  # [M, D]
    heldout_colours: Tensor  # [M, C]


@dataclass(frozen=True)
class FixedReference(LoadedDataset):
    """Stands for a data set of which only `statistics` are known, and maybe spatial ones; its splits are empty."""

    statistics: Reference
    spatial_moments: tuple[Tensor, Tensor] | None = None

    @cached_property
    def spatial(self) -> Reference | None:
        """The spatial statistics; their root takes long to find. Raises EvaluationError for what is no covariance."""
        return None if self.spatial_moments is None else _of_moments(*self.spatial_moments, self.info)


def spread_indices(total: int, count: int) -> Tensor:
    """`count` of the indices 0 … total - 1, evenly spread, int64; all of them where `count` is `total` or more."""
    count = min(total, count)
    return torch.arange(count) * total // max(count, 1)


def extract(features: PreparedFeatures, images: Tensor, *, batch_size: int) -> Tensor:
    """float64 [N, D] on the CPU for uint8 images [N, C, H, W].

    Raises:
        EvaluationError: the extractor gives another shape, or values that are not finite.
    """
    found = torch.cat(
        [features(batch).to(device="cpu", dtype=torch.float64) for batch in torch.split(images, batch_size)]
    )
    if found.shape != (len(images), features.dimension):
        raise EvaluationError(
            f"the feature extractor gave {list(found.shape)} for {len(images)} images and states the dimension "
            f"{features.dimension}"
        )
    if not found.isfinite().all():
        raise EvaluationError("the feature extractor gave NaN or infinity")
    return found


def reference_statistics(
    data: LoadedDataset,
    features: PreparedFeatures,
    *,
    cache_dir: Path,
    max_images: int = MAX_IMAGES,
    batch_size: int = 256,
) -> Reference:
    """Up to `max_images` training and as many held-out images, evenly spread, from `cache_dir/references` where cached.

    A damaged cache file is made again, with a warning.

    Raises:
        EvaluationError: fewer than 2 training images, or fixed statistics of another dimension.
    """
    if isinstance(data, FixedReference):
        dimension = len(data.statistics.mean)
        if dimension != features.dimension:
            raise EvaluationError(
                f"the reference statistics have {dimension} dimensions and these features {features.dimension}: they "
                "are not of one extractor. Choose the one that the statistics were made with: --features"
            )
        return data.statistics
    if len(data.train) < 2:
        raise EvaluationError(f"a reference needs at least 2 training images; this data set has {len(data.train)}")
    key = content_key(
        {
            "dataset": data.content_hash,
            "splits": {"train": len(data.train), "heldout": len(data.heldout)},
            "features": features.identity,
            "max_images": max_images,
            "version": VERSION,
        }
    )
    path = cache_dir / "references" / f"{key}.npz"
    cached = _read(path)
    if cached is not None:
        return cached
    _LOG.info("measuring the real images, once: %d of %d", min(max_images, len(data.train)), len(data.train))
    found, colours = _measured(data.train, features, count=max_images, batch_size=batch_size)
    heldout, heldout_colours = found[:0], colours[:0]
    if len(data.heldout):
        heldout, heldout_colours = _measured(data.heldout, features, count=max_images, batch_size=batch_size)
    mean, covariance = gaussian_moments(found)
    kernel_self = torch.tensor(kernel_self_mean(found), dtype=torch.float64)
    root = covariance_root(covariance)
    reference = Reference(mean, covariance, root, found, kernel_self, colours, heldout, heldout_colours)
    with atomic_file(path) as stream:
        arrays: dict[str, Any] = {name: _compact(tensor) for name, tensor in vars(reference).items()}
        np.savez(stream, **arrays)
    return reference


def fixed_reference(statistics: StatisticsFile, info: DatasetInfo) -> FixedReference:
    """What images of this kind are measured against where only means and covariances are known.

    Raises:
        EvaluationError: the matrix is no covariance.
    """
    empty = ArraySplit(torch.empty(0, info.channels, info.image_size, info.image_size, dtype=torch.uint8))
    known = _of_moments(statistics.mean, statistics.covariance, info)
    return FixedReference(info, empty, empty, statistics.sha256, known, statistics.spatial)


def _of_moments(mean: Tensor, covariance: Tensor, info: DatasetInfo) -> Reference:
    return Reference(
        mean, covariance, covariance_root(covariance), None, None, None,
        mean.new_empty(0, len(mean)), mean.new_empty(0, info.channels),
    )  # fmt: skip


def _measured(split: Split, features: PreparedFeatures, *, count: int, batch_size: int) -> tuple[Tensor, Tensor]:
    """Features [N, D] and mean colours [N, C] of evenly spread images, read one batch at a time."""
    rows, colours = [], []
    for indices in torch.split(spread_indices(len(split), count), batch_size):
        images = split.images(indices)
        rows.append(extract(features, images, batch_size=batch_size))
        colours.append(mean_colours(images))
    return torch.cat(rows), torch.cat(colours)


def _compact(tensor: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.floating]]":
    """As float32 where that loses nothing, which halves the files of extractors that run in float32."""
    narrow = tensor.to(torch.float32)
    return (narrow if torch.equal(narrow.to(torch.float64), tensor) else tensor).numpy()


def _read(path: Path) -> Reference | None:
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as archive:  # each member's CRC-32 is checked as it is read
            return Reference(**{name: torch.from_numpy(archive[name]).to(torch.float64) for name in archive.files})
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        _LOG.warning("the cached reference %s is damaged (%s); making it again", path, error)
        return None
