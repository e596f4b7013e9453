"""Extracting features and pixel statistics from images, which are read once, in batches."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from debiasctl.api import Part, PreparedFeatures, Split
from debiasctl.compute import processes
from debiasctl.data.read_ahead import ReadAhead
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.identity import image_hashes
from debiasctl.evaluation.metrics.colour import mean_colours, mean_squares
from debiasctl.evaluation.metrics.spectrum import radial_power

FEATURES: Part = "features"
LOGITS: Part = "logits"
SPATIAL: Part = "spatial"
PIXELS = "pixels"
HASHES = "hashes"
EXTRAS = (LOGITS, SPATIAL)  # parts that only some extractors offer
BATCH_SIZE = 256
_CPU = torch.device("cpu")
Shape = tuple[int, int, int]  # channels, height, width
Rows = dict[str, Tensor]  # [N, ...] for each requested part of FEATURES, LOGITS, SPATIAL, PIXELS and HASHES


@dataclass(frozen=True)
class PixelStatistics:
    """Each image's mean colour and mean squared pixel in [-1, 1], and power at 1, 2, … cycles per image; float64."""

    colours: Tensor  # [N, C]
    squares: Tensor  # [N, C]
    power: Tensor  # [N, size // 2]

    @classmethod
    def of(cls, rows: Tensor, *, channels: int) -> "PixelStatistics":
        """Split rows [N, 2 C + size // 2] of `extract` into statistics."""
        rows = rows.to(torch.float64)
        return cls(rows[:, :channels], rows[:, channels : 2 * channels], rows[:, 2 * channels :])


def extract(
    images: Split,
    features: PreparedFeatures,
    parts: Collection[str],
    *,
    indices: Tensor | None = None,
    batch_size: int = BATCH_SIZE,
    check_shape: Callable[[Shape], None] = lambda shape: None,
    shared: bool = False,
    on_progress: Callable[[float, int], None] | None = None,
) -> tuple[Shape, Rows] | None:
    """Read `images` (at `indices`, or all of them) once in order; return their shape and the `parts` of each image.

    The next batch is read while the extractor works on the current one. `check_shape` is called with the images' shape
    before the extractor sees them. If the work is `shared`, every process of a group calls this and reads an even part
    of the batches; the first one gets all rows, the others None. `on_progress(done, all)` counts images, scaled from
    the first process's to all.

    Raises:
        EvaluationError: if there are no images, they are not uint8 [N, C, H, W] of one shape, or the extractor returns
            another shape than it states, or values that are not finite.
    """
    indices = torch.arange(len(images)) if indices is None else indices
    if not len(indices):
        raise EvaluationError("there are no images. Give some")
    batches = torch.split(indices, batch_size)
    rank, size = (processes.rank(), processes.size()) if shared else (0, 1)
    mine = batches[len(batches) * rank // size : len(batches) * (rank + 1) // size]
    shape: Shape | None = None
    found: list[Rows] = []
    reading = ReadAhead(lambda number: images.images(mine[number]), ahead=1, device=_CPU)
    try:
        if on_progress and rank == 0:
            on_progress(0, len(indices))
        for number in range(len(mine)):
            batch = _checked_images(reading(number), shape)
            channels, height, width = batch.shape[1:]
            shape = (channels, height, width)
            check_shape(shape)
            found.append(_parts_of(batch, features, parts))
            if on_progress and rank == 0:
                on_progress(len(indices) * (number + 1) / len(mine), len(indices))
    finally:
        reading.close()
    if shared:
        together = processes.gathered((shape, found))
        if rank > 0:
            return None
        shape, found = _one_shape([one for one, _ in together]), [rows for _, part in together for rows in part]
    assert shape is not None, "there are images"
    return shape, {part: torch.cat([rows.pop(part) for rows in found]) for part in parts}


def _parts_of(batch: Tensor, features: PreparedFeatures, parts: Collection[str]) -> Rows:
    wanted: list[Part] = [part for part in get_args(Part) if part in parts]
    rows: Rows = {}
    for part, tensor in features.parts(batch, wanted).items():
        _check_rows(tensor, len(batch), features.dimension if part == FEATURES else None)
        rows[part] = tensor
    if PIXELS in parts:
        rows[PIXELS] = torch.cat([mean_colours(batch), mean_squares(batch), radial_power(batch)], dim=1)
    compacted = {part: compact(tensor.cpu()) for part, tensor in rows.items()}
    return compacted | ({HASHES: image_hashes(batch)} if HASHES in parts else {})


def compact(rows: Tensor) -> Tensor:
    """Convert float64 to float32 if that is lossless, as for networks that run in float32, to halve the memory."""
    rows = rows.to(torch.float64)
    narrow = rows.to(torch.float32)
    return narrow if torch.equal(narrow.to(torch.float64), rows) else rows


def _one_shape(shapes: Collection[Shape | None]) -> Shape | None:
    different = list(dict.fromkeys(shape for shape in shapes if shape is not None))
    if len(different) > 1:
        raise _different(*different[:2])
    return different[0] if different else None


def _different(first: Shape, second: Shape) -> EvaluationError:
    return EvaluationError(f"images must have one shape; these have {list(first)} and {list(second)}")


def _checked_images(batch: Tensor, shape: Shape | None) -> Tensor:
    if batch.is_floating_point() and not batch.isfinite().all():
        raise EvaluationError("the images hold NaN or infinity. Images must be uint8 [N, C, H, W]")
    if batch.dtype != torch.uint8 or batch.ndim != 4:
        raise EvaluationError(f"images must be uint8 [N, C, H, W], not {batch.dtype} {list(batch.shape)}")
    channels, height, width = batch.shape[1:]
    if shape not in (None, (channels, height, width)):
        raise _different(shape, (channels, height, width))
    return batch.cpu()


def _check_rows(rows: Tensor, num: int, dimension: int | None) -> None:
    if rows.ndim != 2 or len(rows) != num or dimension not in (None, rows.shape[1]):
        raise EvaluationError(
            f"the feature extractor returned {list(rows.shape)} for {num} images, but states the dimension {dimension}"
        )
    if not rows.isfinite().all():
        raise EvaluationError("the feature extractor returned NaN or infinity")
