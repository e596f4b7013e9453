"""The ideal denoiser of a finite set of images: a softmax over all of them, in float64, block by block."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.analysis.ideal.posterior import Posterior, with_doubles
from debiasctl.api import Level, Split
from debiasctl.data.pixels import to_model_space

_ROWS = 2048  # images at a time
_QUERIES = 256  # x_t at a time
_NEGLIGIBLE = 80.0  # below the greatest exponent: exp(-80) times any number of images is nothing in float64
_LEAST_SIGMA = 1e-6


@dataclass(frozen=True)
class ImageSet:
    """Images as they are stored, [n, D], their classes and the split's index of each, int64 [n], None and unused.

    `copies` is 2 if each image of the split stands beside its mirror image. `counts` are the copies of all images of
    the split, by class, and under -1 those of all classes.
    """

    images: Tensor
    labels: Tensor | None
    sources: Tensor
    copies: int
    counts: dict[int, int]

    @classmethod
    def of(cls, split: Split, *, mirrored: bool, conditional: bool, device: torch.device) -> "ImageSet":
        """All images of a split."""
        copies, indices = 2 if mirrored else 1, torch.arange(len(split))
        first = split.images(indices[:1])
        held = torch.empty(len(indices) * copies, first[0].numel(), dtype=first.dtype, device=with_doubles(device))
        for start in range(0, len(indices), _ROWS):
            part = indices[start : start + _ROWS]
            images = split.images(part)
            both = torch.stack([images, images.flip(-1)], dim=1)[:, :copies]
            held[start * copies : (start + len(part)) * copies] = both.flatten(2).flatten(0, 1).to(held.device)
        labels = split.labels(indices) if conditional else None
        counts = {-1: len(held)}
        if labels is not None:
            counts |= {label: copies * num for label, num in enumerate(torch.bincount(labels).tolist())}
            labels = labels.repeat_interleave(copies).to(held.device)
        return cls(held, labels, indices.repeat_interleave(copies).to(held.device), copies, counts)


@dataclass
class Sums:
    """Sums over images of w, w², w x and w |x|², for each of Q queries, with w relative to exp(`top`)."""

    top: Tensor  # [Q]
    weight: Tensor  # [Q]
    weight2: Tensor  # [Q]
    image: Tensor  # [Q, D]
    norm: Tensor  # [Q]

    @classmethod
    def none(cls, queries: Tensor) -> "Sums":
        """The sums over no images."""
        zeros = torch.zeros_like(queries[:, 0])
        return cls(torch.full_like(zeros, -torch.inf), zeros, zeros, torch.zeros_like(queries), zeros)

    def add(self, logits: Tensor, images: Tensor) -> None:
        """Add images [n, D] whose log-weights are `logits` [Q, n]."""
        top = torch.maximum(self.top, logits.amax(dim=1))
        kept = (logits > top[:, None] - _NEGLIGIBLE).any(dim=0)
        if not bool(kept.any()):
            return
        logits, images = logits[:, kept], images[kept]
        rescale = (self.top - top).exp()
        weights = (logits - top[:, None]).exp()
        self.weight = self.weight * rescale + weights.sum(dim=1)
        self.weight2 = self.weight2 * rescale.square() + weights.square().sum(dim=1)
        self.image = self.image * rescale[:, None] + weights @ images
        self.norm = self.norm * rescale + weights @ images.square().sum(dim=1)
        self.top = top


class TrainingImages:
    """E[x0 | x_t] over all training images, or over those of a class where labels are given.

    Its best is that of a finite set: at little noise it remembers the images, and then says nothing of new ones.
    """

    name = "all training images"
    exact = False

    def __init__(self, known: ImageSet) -> None:
        self.known = known

    def __call__(
        self, x_t: Tensor, level: Level, labels: Tensor | None = None, *, own: Tensor | None = None
    ) -> Posterior:
        """The posterior for x_t [N, C, H, W] at a level; `own` makes no difference, as every image is there."""
        images = self.known.images
        queries = x_t.to(images.device, torch.float64).flatten(1)
        mean, variance = torch.empty_like(queries), torch.empty_like(queries[:, 0])
        neighbours = torch.empty_like(variance)
        for chosen, rows in by_class(self.known, labels, len(queries)):
            for start in range(0, len(chosen), _QUERIES):
                part = chosen[start : start + _QUERIES]
                sums = summed(self.known, rows, queries[part], level)
                mean[part] = sums.image / sums.weight[:, None]
                second = sums.norm / sums.weight - mean[part].square().sum(dim=1)
                variance[part] = second.clamp(min=0) / queries.shape[1]
                neighbours[part] = sums.weight.square() / sums.weight2
        device = x_t.device
        return Posterior(mean.view(x_t.shape).to(device), variance.to(device), neighbours.to(device))


def by_class(known: ImageSet, labels: Tensor | None, num: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Queries, int64 [n], that have one class, and the rows of the set that are of it; None for all rows."""
    device = known.images.device
    if labels is None or known.labels is None:
        yield torch.arange(num, device=device), None
        return
    labels = labels.to(device)
    for label in sorted(set(labels.tolist())):
        is_class = label in known.counts and known.counts[label] > 0
        yield (labels == label).nonzero()[:, 0], (known.labels == label).nonzero()[:, 0] if is_class else None


def summed(known: ImageSet, rows: Tensor | None, queries: Tensor, level: Level) -> Sums:
    """The sums for queries [Q, D] at a level over rows of the set, or all of them."""
    scale = level.alpha / max(level.sigma, _LEAST_SIGMA) ** 2
    sums = Sums.none(queries)
    for start in range(0, len(known.images) if rows is None else len(rows), _ROWS):
        part = slice(start, start + _ROWS) if rows is None else rows[start : start + _ROWS]
        images = in_doubles(known.images[part])
        logits = scale * (queries @ images.T) - scale * level.alpha / 2 * images.square().sum(dim=1)
        sums.add(logits, images)
    return sums


def in_doubles(stored: Tensor) -> Tensor:
    """Stored images in model space, float64, as the float32 that networks are given."""
    return to_model_space(stored).to(torch.float64)
