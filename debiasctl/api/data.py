"""Helpers for data sets and feature extractors: hashes of contents, and evenly spread subsets of a split."""

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from debiasctl.api.datasets import Split

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 256


def hash_contents(description: Any, tensors: "Sequence[Tensor]") -> str:
    """Compute the SHA-256, in hexadecimal, of a JSON value and of the dtypes, shapes and elements of `tensors`."""
    digest = hashlib.sha256()
    _update(digest, description)
    for tensor in tensors:
        _update(digest, [str(tensor.dtype), list(tensor.shape)])
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def hash_splits(description: Any, splits: Sequence[Split]) -> str:
    """Compute the SHA-256, in hexadecimal, of a JSON value and of every image and label, reading part by part."""
    import torch

    digest = hashlib.sha256()
    _update(digest, description)
    for split in splits:
        _update(digest, len(split))
        for start in range(0, len(split), _CHUNK):
            digest.update(_bytes(split.images(torch.arange(start, min(start + _CHUNK, len(split))))))
        labels = split.labels(torch.arange(len(split)))
        if labels is not None:
            digest.update(_bytes(labels))
    return digest.hexdigest()


def spread_indices(total: int, count: int) -> "Tensor":
    """Return `count` of the indices 0 … total - 1, evenly spread, int64; all of them if `count` is `total` or more."""
    import torch

    count = min(total, count)
    return torch.arange(count) * total // max(count, 1)


def _update(digest: Any, value: Any) -> None:
    digest.update(json.dumps(value, sort_keys=True).encode() + b"\n")


def _bytes(tensor: "Tensor") -> memoryview:
    return tensor.contiguous().numpy().data.cast("B")
