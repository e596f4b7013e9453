"""Random numbers as functions of (seed, stream, step, position): Philox4x32-10 (Salmon et al., SC 2011) on tensors.

Nothing is drawn in sequence, so the numbers for one image at one step do not depend on other images, on the batch size,
on the number of processes or on earlier steps. Words and uniform numbers are the same on every device; normal numbers
agree up to the rounding of the device's log, sin and cos.
"""

import hashlib
import math
from collections.abc import Sequence
from enum import IntEnum, unique

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_ROUNDS = 10
_PART = 2**16  # images at once, few enough for their words to stay in the processor's cache
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


@unique
class Stream(IntEnum):
    """The purposes of random numbers; numbers of different streams are independent."""

    ORDER = 1
    TIMESTEP = 2
    NOISE = 3
    FLIP = 4
    SAMPLING = 5
    LABEL = 6
    HELDOUT = 7
    TIMESTEP_SHARED = 8
    LIKELIHOOD = 10
    LABEL_DROPOUT = 9
    TEACHER_FORCING = 13
    GRADIENT = 16
    COPYING = 17
    EXISTENCE = 21


def philox(counters: Sequence[Tensor | int], seed: int) -> list[Tensor]:
    """Compute four words (int64 tensors in [0, 2³²)) from four broadcastable counter words and a 64-bit seed."""
    words = [torch.as_tensor(word, dtype=torch.int64) for word in counters]
    c0, c1, c2, c3 = words  # the rounds' own arithmetic broadcasts them
    key0, key1 = seed & _MASK, (seed >> 32) & _MASK
    for _ in range(_ROUNDS):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            ((product1 >> 32) & _MASK) ^ c1 ^ key0,
            product1 & _MASK,
            ((product0 >> 32) & _MASK) ^ c3 ^ key1,
            product0 & _MASK,
        )
        key0, key1 = (key0 + _WEYL[0]) & _MASK, (key1 + _WEYL[1]) & _MASK
    return [c0, c1, c2, c3]


def uniform(seed: int, stream: Stream, *, step: int, positions: Tensor) -> Tensor:
    """Draw float64 [N] in [0, 1) with 53 random bits for int64 `positions` [N], on the positions' device."""
    words = philox([torch.zeros_like(positions), positions, _word(step, positions), _word(stream, positions)], seed)
    return ((words[0] >> 5) * 2**26 + (words[1] >> 6)).to(torch.float64) * 2.0**-53


def normal(seed: int, stream: Stream, *, step: int, positions: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw float32 [N, *shape], standard normal (Box–Muller), for int64 `positions` [N], on the positions' device."""
    size = math.prod(shape)
    blocks = torch.arange((size + 3) // 4, device=positions.device)
    rows = positions[:, None]
    words = philox([blocks[None], rows, _word(step, positions), _word(stream, positions)], seed)
    pairs = []
    for first, second in ((words[0], words[1]), (words[2], words[3])):
        radius = torch.sqrt(-2 * torch.log((first + 1).to(torch.float32) * 2.0**-32))  # from a uniform number in (0, 1]
        angle = second.to(torch.float32) * (2 * math.pi * 2.0**-32)
        pairs += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.stack(pairs, dim=-1).flatten(1)[:, :size].reshape(-1, *shape)


def order(seed: int, *, epoch: int, size: int) -> Tensor:
    """The permutation of 0 … size - 1 for an epoch, int64 [size] on the CPU."""
    keys = torch.empty(size, dtype=torch.float64)
    for start in range(0, size, _PART):
        positions = torch.arange(start, min(start + _PART, size))
        keys[start : start + _PART] = uniform(seed, Stream.ORDER, step=epoch, positions=positions)
    return torch.argsort(keys, stable=True)


def _word(value: int, like: Tensor) -> Tensor:
    return torch.tensor(value & _MASK, dtype=torch.int64, device=like.device)


def derived_seed(*parts: int | str) -> int:
    """Derive a 63-bit seed from any parts, for generators that take a single number."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
