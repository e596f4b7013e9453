"""Training images as they are stored, all of them or random parts, and sums over them in float64."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.analysis.ideal.posterior import with_doubles
from debiasctl.api import Level, Split
from debiasctl.data.pixels import to_model_space

MOST_VALUES = 320_000_000  # of the images that are held: 104,000 of 32 pixels' edge in colour
ALL = -1  # in place of a class
_BLOCK = 1_000_000  # values at a time, few enough for a processor's cache
_NEGLIGIBLE = 80.0  # below the greatest exponent: exp(-80) times any number of images is nothing in float64
_LEAST_SIGMA = 1e-6


@dataclass(frozen=True)
class ImageSet:
    """Images as they are stored, [n, D], with the split's index and the class of each, int64 [n].

    `copies` is 2 if the set that they are of has each image of the split beside its mirror image. `counts` are that
    set's sizes by class, and under `ALL` that of the whole.
    """

    images: Tensor
    labels: Tensor | None
    sources: Tensor
    copies: int
    counts: dict[int, int]

    @property
    def is_whole(self) -> bool:
        """Whether these are all images of the set."""
        return len(self.images) == self.counts[ALL]

    def by_class(self, labels: Tensor | None, num: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Yield queries of one class, int64 [n], the rows of images of it, and the set's size.

        A label of which the set has no images stands for none: all images are of it.
        """
        device = self.images.device
        everything = torch.arange(len(self.images), device=device)
        if labels is None or self.labels is None:
            yield torch.arange(num, device=device), everything, self.counts[ALL]
            return
        labels = labels.to(device)
        is_class = torch.isin(labels, torch.tensor([one for one in self.counts if one != ALL], device=device))
        if not bool(is_class.all()):
            yield (~is_class).nonzero()[:, 0], everything, self.counts[ALL]
        for label in sorted(set(labels[is_class].tolist())):
            yield (labels == label).nonzero()[:, 0], (self.labels == label).nonzero()[:, 0], self.counts[label]


def image_sets(
    split: Split,
    *,
    mirrored: bool,
    conditional: bool,
    device: torch.device,
    seed: int,
    parts: int = 1,
    most_values: int | None = None,
) -> list[ImageSet]:
    """All images of a split, mirrored ones beside them if so; of a set that is too large, disjoint random parts.

    `most_values` is how many values may be held in all, `MOST_VALUES` without it.
    """
    copies = 2 if mirrored else 1
    total, values = len(split) * copies, split.images(torch.arange(1))[0].numel()
    labels = split.labels(torch.arange(len(split))) if conditional else None
    counts = {ALL: total}
    if labels is not None:
        found = torch.bincount(labels).tolist()
        counts |= {label: num * copies for label, num in enumerate(found) if num}
    most = max(2 * parts, (MOST_VALUES if most_values is None else most_values) // values)
    if total <= most:
        chosen: list[Tensor] = [torch.arange(total)]
    else:
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
        size = most // parts
        chosen = [order[size * part : size * (part + 1)].sort().values for part in range(parts)]
    return [
        ImageSet(
            _read(split, units, copies=copies, device=with_doubles(device)),
            None if labels is None else labels[units // copies].to(with_doubles(device)),
            (units // copies).to(with_doubles(device)),
            copies,
            counts,
        )
        for units in chosen
    ]


def _read(split: Split, units: Tensor, *, copies: int, device: torch.device) -> Tensor:
    """The images with these numbers, [n, D]: with two copies, every other one is the mirror image of the one before."""
    first = split.images(torch.arange(1))
    held = torch.empty(len(units), first[0].numel(), dtype=first.dtype, device=device)
    rows = max(1, _BLOCK // held.shape[1])
    for start in range(0, len(units), rows):
        part = units[start : start + rows]
        indices, places = (part // copies).unique_consecutive(return_inverse=True)  # type: ignore[no-untyped-call]
        images = split.images(indices)[places]
        is_mirrored = (part % copies == 1)[:, None, None, None]
        held[start : start + len(part)] = torch.where(is_mirrored, images.flip(-1), images).flatten(1).to(device)
    return held


def in_doubles(stored: Tensor) -> Tensor:
    """Stored images in model space, float64, with the values of the float32 that networks are given."""
    return to_model_space(stored).to(torch.float64)


def logits_of(queries: Tensor, images: Tensor, norms: Tensor, level: Level) -> Tensor:
    """log p(x_t | image) for queries [Q, D] and images [n, D] or [Q, n, D], up to a constant of the query: [Q, n].

    `norms` are the images' sums of squares.
    """
    scale = level.alpha / max(level.sigma, _LEAST_SIGMA) ** 2
    products = queries @ images.T if images.ndim == 2 else (images @ queries[:, :, None])[..., 0]
    return scale * products - scale * level.alpha / 2 * norms


class Sums:
    """Sums over images of weights w, relative to exp(`top`), for each of Q queries.

    `weight`, `weight2` and `weight4` are sums of w, w² and w⁴ [Q]; `image` of w x [Q, D]; `norm` of w |x|² [Q]. With
    `errors`, `image2` and `square2` are those of w² x and w² x² [Q, D], by each value.
    """

    def __init__(self, queries: Tensor, *, errors: bool = False) -> None:
        zeros = torch.zeros_like(queries[:, 0])
        self.top = torch.full_like(zeros, -torch.inf)
        self.weight, self.weight2, self.weight4, self.norm = zeros, zeros, zeros, zeros
        self.image = torch.zeros_like(queries)
        self.errors, self.image2, self.square2 = errors, self.image, self.image

    def add(self, logits: Tensor, images: Tensor, norms: Tensor) -> None:
        """Add images [n, D] with these sums of squares [n], whose log-weights are `logits` [Q, n]."""
        top = torch.maximum(self.top, logits.amax(dim=1))
        kept = (logits > top[:, None] - _NEGLIGIBLE).any(dim=0)
        if not bool(kept.any()):
            return
        if not bool(kept.all()):
            logits, images, norms = logits[:, kept], images[kept], norms[kept]
        self.scale((self.top - top).exp().nan_to_num(0.0))  # -inf - -inf before the first image that counts
        self.top = top
        weights = (logits - top[:, None]).exp().nan_to_num(0.0)
        squared = weights.square()
        self.weight = self.weight + weights.sum(dim=1)
        self.weight2 = self.weight2 + squared.sum(dim=1)
        self.weight4 = self.weight4 + squared.square().sum(dim=1)
        self.image = self.image + weights @ images
        self.norm = self.norm + weights @ norms
        if self.errors:
            self.image2 = self.image2 + squared @ images
            self.square2 = self.square2 + squared @ images.square()

    def scale(self, factor: Tensor) -> None:
        """Multiply all weights by `factor` [Q]."""
        square = factor.square()
        self.weight, self.weight2 = self.weight * factor, self.weight2 * square
        self.weight4, self.norm = self.weight4 * square.square(), self.norm * factor
        self.image = self.image * factor[:, None]
        if self.errors:
            self.image2, self.square2 = self.image2 * square[:, None], self.square2 * square[:, None]

    @property
    def neighbours(self) -> Tensor:
        """The effective number of images, [Q]; 0 where none counts."""
        return (self.weight.square() / self.weight2).nan_to_num(0.0)


def summed(
    known: ImageSet, rows: Tensor, queries: Tensor, level: Level, *, hidden: Tensor | None = None, errors: bool = False
) -> Sums:
    """The sums for queries [Q, D] at a level over rows of the set, without images of the sources `hidden` [Q]."""
    sums = Sums(queries, errors=errors)
    size = max(1, _BLOCK // queries.shape[1])
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        images = in_doubles(known.images[part])
        norms = torch.einsum("rv,rv->r", images, images)
        logits = logits_of(queries, images, norms, level)
        if hidden is not None:
            logits = logits.masked_fill(known.sources[part] == hidden[:, None], -math.inf)
        sums.add(logits, images, norms)
    return sums
