"""Deciding whether the class counts of given images were chosen or drawn, on which the jackknife depends."""

from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import Split

_TOO_EVEN = 0.01  # the share of random draws with equally even counts, below which counts are taken as chosen

UNKNOWN = (
    "the images have no labels: the intervals assume that their classes were drawn at random; if the counts were "
    "chosen, give labels (class folders, or 'labels' in an npz) or measure the run itself"
)
ONE = "the images are of one class, so no class counts were chosen: the intervals assume that they were drawn at random"
CHOSEN = "the images' classes are more even than by chance: the intervals assume that their counts were chosen"
DRAWN = (
    "the images' classes are not more even than by chance: the intervals assume that they were drawn at random; if "
    "uneven counts were chosen, measure the run itself"
)


@dataclass(frozen=True)
class _Unlabelled:
    """A split without its labels."""

    split: Split

    def __len__(self) -> int:
        return len(self.split)

    def images(self, indices: Tensor) -> Tensor:
        """The images at `indices`, uint8 [N, C, H, W]."""
        return self.split.images(indices)

    def labels(self, indices: Tensor) -> None:
        """None."""


def as_drawn(images: Split) -> tuple[Split, str]:
    """Prepare given images for `observe`, labelled only if their class counts were chosen, with a note on that."""
    labels = images.labels(torch.arange(len(images)))
    if labels is None:
        return images, UNKNOWN
    if bool((labels == labels[0]).all()):
        return _Unlabelled(images), ONE
    return (images, CHOSEN) if chosen_counts(labels) else (_Unlabelled(images), DRAWN)


def chosen_counts(labels: Tensor) -> bool:
    """Whether class counts of labels [N] are more even than by chance, so that they were chosen and not drawn.

    They are if Pearson's chi-square (1900) against equal proportions of the K classes from the lowest label to the
    highest, sum of (count - N/K)² / (N/K), lies below its 1 % quantile at K - 1 degrees of freedom. Counts that differ
    by at most one image always pass, unless no class has two. Chosen unequal proportions, such as a data set's own, are
    not detected.
    """
    from scipy.special import chdtr

    _, counts = torch.unique(labels, return_counts=True)
    if counts.max() - counts.min() <= 1:
        return bool(counts.max() > 1)
    num, classes = len(labels), int(labels.max() - labels.min()) + 1  # some classes may have no image
    statistic = float(counts.double().square().sum()) * classes / num - num
    return bool(chdtr(classes - 1, statistic) < _TOO_EVEN)
