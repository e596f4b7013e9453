"""A set of images with its features and pixel statistics, and its division for the jackknife."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import PreparedFeatures, Split, spread_indices
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.extraction import (
    BATCH_SIZE,
    FEATURES,
    HASHES,
    LOGITS,
    PIXELS,
    SPATIAL,
    PixelStatistics,
    Rows,
    Shape,
    extract,
)
from debiasctl.evaluation.uncertainty.jackknife import Division


@dataclass(frozen=True)
class Observed:
    """N images: their shape, the extracted parts of each, and their division for the jackknife."""

    shape: Shape
    rows: Rows
    division: Division

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    @classmethod
    def of(cls, shape: Shape, rows: Rows, labels: Tensor | None = None) -> "Observed":
        """Make an observed set from extracted rows; `labels` [N] are given if the class counts were chosen."""
        return cls(shape, rows, Division.of(len(next(iter(rows.values()))), labels))

    @property
    def features(self) -> Tensor:
        """The features [N, D]."""
        return self.rows[FEATURES]

    @property
    def logits(self) -> Tensor | None:
        """The logits [N, K], if they were extracted."""
        return self.rows.get(LOGITS)

    @property
    def spatial(self) -> Tensor | None:
        """The spatial features [N, E], if they were extracted."""
        return self.rows.get(SPATIAL)

    @property
    def pixels(self) -> PixelStatistics | None:
        """The pixel statistics, if they were extracted."""
        rows = self.rows.get(PIXELS)
        return None if rows is None else PixelStatistics.of(rows, channels=self.shape[0])

    @property
    def hashes(self) -> Tensor | None:
        """The hashes of the images' pixels, if they were extracted."""
        return self.rows.get(HASHES)

    def take(self, indices: Tensor) -> "Observed":
        """The observed set with only the images at `indices`."""
        rows = {part: tensor[indices] for part, tensor in self.rows.items()}
        return Observed(self.shape, rows, self.division.take(indices))

    def some(self, count: int) -> "Observed":
        """The observed set with `count` of the images, evenly spread, if there are that many, and divided again."""
        return self.take(spread_indices(len(self), count))


def observe(
    images: Split,
    features: PreparedFeatures,
    parts: Collection[str],
    *,
    batch_size: int = BATCH_SIZE,
    check_shape: Callable[[Shape], None] = lambda shape: None,
    shared: bool = False,
    on_progress: Callable[[float, int], None] | None = None,
) -> Observed | None:
    """Read all of `images` once; see `extract`. The class counts of a split with labels are taken as chosen.

    Raises:
        EvaluationError: if there are fewer than 2 images, or `extract` raises it.
    """
    if len(images) < 2:
        raise EvaluationError(f"a distance needs at least 2 images to measure, not {len(images)}. Give more of them")
    found = extract(
        images,
        features,
        parts,
        batch_size=batch_size,
        check_shape=check_shape,
        shared=shared,
        on_progress=on_progress,
    )
    return None if found is None else Observed.of(*found, _strata(images.labels(torch.arange(len(images)))))


def _strata(labels: Tensor | None) -> Tensor | None:
    """The labels, if they tell images apart: one class alone has no counts that could have been chosen."""
    return None if labels is None or bool((labels == labels[0]).all()) else labels
