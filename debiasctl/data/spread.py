"""Some images of a split, evenly spread over it and over its classes, whatever the order of these is."""

import torch
from torch import Tensor

from debiasctl.api import Split, spread_indices

_CHANCE = 1e-6  # that evenly spread images of a random order have class counts as far from the split's
_LONGEST = 4096  # images after which an order of labels may repeat, and is seen to


def spread_over(split: Split, count: int) -> Tensor:
    """The indices of `count` images, int64, ascending; all of them if there are no more.

    They are evenly spread, as `spread_indices` gives them. Where the classes come in an order that repeats, as 0, 1, 0,
    1, …, these would be of few classes: then each class has its share, evenly spread within it.
    """
    indices = spread_indices(len(split), count)
    if not 0 < len(indices) < len(split):
        return indices
    labels = split.labels(torch.arange(len(split)))
    if labels is None or bool((labels == labels[0]).all()) or not (_repeats(labels) or _is_apart(labels, indices)):
        return indices
    order = torch.argsort(labels, stable=True)
    return order[spread_indices(len(order), len(indices))].sort().values


def _repeats(labels: Tensor) -> bool:
    """Whether the order of labels [N] is that of a few images, repeated to the end."""
    changes = (labels[1 : _LONGEST + 1] != labels[:_LONGEST][: len(labels) - 1]).nonzero()
    if not len(changes):
        return False
    start = int(changes[0])
    looked_at = labels[start : start + 8]  # a change, which orders seldom have in common by chance
    for period in range(2, min(_LONGEST, len(labels) // 2) + 1):
        alike = torch.equal(looked_at[: len(labels) - start - period], labels[start + period : start + period + 8])
        if alike and torch.equal(labels[period:], labels[:-period]):
            return True
    return False


def _is_apart(labels: Tensor, indices: Tensor) -> bool:
    """Whether the counts of classes at the indices differ from those of all labels as chance does not make them."""
    counts = torch.bincount(labels)
    expected = counts.double() / len(labels) * len(indices)
    found = torch.bincount(labels[indices], minlength=len(counts)).double()
    common = expected >= 1  # rarer classes count as one
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    found = torch.cat([found[common], found[~common].sum()[None]])
    whole = expected >= 1
    if int(whole.sum()) < 2:
        return False
    left = 1 - len(indices) / len(labels)  # without replacement counts vary less
    statistic = float(((found - expected).square() / expected)[whole].sum()) / left
    halves = torch.tensor([int(whole.sum()) - 1, statistic], dtype=torch.float64) / 2
    return float(torch.special.gammaincc(*halves)) < _CHANCE  # the tail of chi-squared; scipy.stats takes a second
