"""Parts of a split that stand for all of it."""

import torch
from torch import Tensor


def spread_indices(total: int, count: int) -> Tensor:
    """`count` of the indices 0 … total - 1, evenly spread, int64; all of them where `count` is `total` or more."""
    count = min(total, count)
    return torch.arange(count) * total // max(count, 1)
