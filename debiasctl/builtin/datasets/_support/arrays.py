"""What the built-in data sets share: hashing of contents and the choice of held-out images."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import Split

_CHUNK = 256


def hash_contents(description: Any, tensors: Sequence[Tensor]) -> str:
    """SHA-256, in hexadecimal, of a JSON value and of the dtypes, shapes and elements of `tensors`."""
    digest = hashlib.sha256()
    _update(digest, description)
    for tensor in tensors:
        _update(digest, [str(tensor.dtype), list(tensor.shape)])
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def hash_splits(description: Any, splits: Sequence[Split]) -> str:
    """SHA-256, in hexadecimal, of a JSON value and of every image and label, reading a part at a time."""
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


def every_nth_of_each_class(targets: Tensor, nth: int) -> Tensor:
    """Bool [N]: true for the nth, 2nth, ... image of each class, in the order of `targets` (int64 [N])."""
    chosen = torch.zeros(len(targets), dtype=torch.bool)
    for label in range(int(targets.max()) + 1):
        members = (targets == label).nonzero().squeeze(1)
        chosen[members[nth - 1 :: nth]] = True
    return chosen


def _update(digest: Any, value: Any) -> None:
    digest.update(json.dumps(value, sort_keys=True).encode() + b"\n")


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().numpy().data.cast("B")
