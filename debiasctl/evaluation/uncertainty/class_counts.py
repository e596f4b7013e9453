"""Whether the class counts of given images were chosen or drawn, which decides what the jackknife may vary."""

from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import Split

_TOO_EVEN = 0.01  # share of random draws whose counts are as even

UNKNOWN = (
    "the images have no labels: the intervals take their classes as drawn at random; where their counts were chosen, "
    "give labels (class folders, or 'labels' in an npz) or measure the run itself"
)
CHOSEN = "the images' classes are more even than chance makes them: the intervals take their counts as chosen"
DRAWN = (
    "the images' classes are no more even than chance makes them: the intervals take their counts as drawn at random; "
    "where uneven counts were chosen, measure the run itself"
)


@dataclass(frozen=True)
class _Unlabelled:
    """A split without its labels."""

    split: Split

    def __len__(self) -> int:
        return len(self.split)

    def images(self, indices: Tensor) -> Tensor:
        """uint8 [N, C, H, W]."""
        return self.split.images(indices)

    def labels(self, indices: Tensor) -> None:
        """None."""


def as_drawn(images: Split) -> tuple[Split, str]:
    """Given images as `observe` is to see them, labelled only if their class counts were chosen; and a note on it."""
    labels = images.labels(torch.arange(len(images)))
    if labels is None:
        return images, UNKNOWN
    return (images, CHOSEN) if chosen_counts(labels) else (_Unlabelled(images), DRAWN)


def chosen_counts(labels: Tensor) -> bool:
    """Whether classes [N] number more evenly than chance makes them: their counts were chosen, not drawn.

    Pearson's chi-square (1900) against equal proportions of the K classes from the least label to the greatest,
    sum of (count - N/K)² / (N/K), lies below its 1 % quantile at K - 1 degrees of freedom. Counts that differ by at
    most one image always pass, unless no class has two. Unequal proportions that were chosen, such as a data set's own,
    do not show.
    """
    from scipy.special import chdtr

    _, counts = torch.unique(labels, return_counts=True)
    if counts.max() - counts.min() <= 1:
        return bool(counts.max() > 1)
    num, classes = len(labels), int(labels.max() - labels.min()) + 1  # some may have no image
    statistic = float(counts.double().square().sum()) * classes / num - num
    return bool(chdtr(classes - 1, statistic) < _TOO_EVEN)
