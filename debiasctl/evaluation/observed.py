"""A set of images as an extractor and the eye see it, and how the jackknife divides it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import PreparedFeatures, Split, spread_indices
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.extraction import (
    BATCH_SIZE,
    FEATURES,
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
    """N images: their shape, what was found of each, and the jackknife's division of them."""

    shape: Shape
    rows: Rows
    division: Division

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    @classmethod
    def of(cls, shape: Shape, rows: Rows, labels: Tensor | None = None) -> "Observed":
        """From their rows; `labels` [N] where the numbers of images of the classes were chosen."""
        return cls(shape, rows, Division.of(len(next(iter(rows.values()))), labels))

    @property
    def features(self) -> Tensor:
        """[N, D]."""
        return self.rows[FEATURES]

    @property
    def logits(self) -> Tensor | None:
        """[N, K], where the extractor gives them and they were asked for."""
        return self.rows.get(LOGITS)

    @property
    def spatial(self) -> Tensor | None:
        """[N, E], likewise."""
        return self.rows.get(SPATIAL)

    @property
    def pixels(self) -> PixelStatistics | None:
        """Where they were asked for."""
        rows = self.rows.get(PIXELS)
        return None if rows is None else PixelStatistics.of(rows, channels=self.shape[0])

    def take(self, indices: Tensor) -> "Observed":
        """Of these images."""
        rows = {part: tensor[indices] for part, tensor in self.rows.items()}
        return Observed(self.shape, rows, self.division.take(indices))

    def some(self, count: int) -> "Observed":
        """Of `count` of them, evenly spread, where there are so many; divided anew."""
        indices = spread_indices(len(self), count)
        return Observed.of(self.shape, {part: tensor[indices] for part, tensor in self.rows.items()})


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
    """All of `images`, read once; see `extract`. Class counts of a split that has labels are taken as chosen.

    Raises:
        EvaluationError: fewer than 2 images, and as `extract`.
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
    return None if found is None else Observed.of(*found, images.labels(torch.arange(len(images))))
