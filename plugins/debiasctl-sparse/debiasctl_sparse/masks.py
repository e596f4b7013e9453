"""Masks: drawn at random, and changed by pruning and regrowing as many weights of a layer."""

import hashlib
import math

import torch
from torch import Tensor


def generator(seed: int, *purpose: object) -> torch.Generator:
    """A generator of one purpose alone: the same in every process, on every device and after a resume."""
    text = "/".join(map(str, ("debiasctl-sparse", seed, *purpose)))
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1)


def random_mask(shape: torch.Size, count: int, source: torch.Generator) -> Tensor:
    """`count` active places (True) of a layer, all sets of them alike probable; bool, on the CPU."""
    mask = torch.zeros(shape.numel(), dtype=torch.bool)
    mask[torch.randperm(shape.numel(), generator=source)[:count]] = True
    return mask.view(shape)


def update_fraction(step: int, *, alpha: float, end: float) -> float:
    """The share of active weights that is replaced: alpha/2 (1 + cos(pi t / T_end)) (arXiv 1911.11134, §3)."""
    return alpha / 2 * (1 + math.cos(math.pi * step / end)) if step < end else 0.0


def changed(active: Tensor, weight: Tensor, score: Tensor, count: int) -> Tensor:
    """The mask after pruning `count` weights and regrowing as many (arXiv 1911.11134, Algorithm 1); bool, as `active`.

    The active weights of least magnitude are pruned. Of all places that are inactive then, those of the largest `score`
    become active; a weight that was pruned just now may be among them, and then stays as it is. Among equal ones the
    first in memory order is taken, on every device.
    """
    flat = active.flatten()
    magnitude = weight.detach().abs().flatten().masked_fill(~flat, math.inf)
    kept = flat.clone()
    kept[torch.sort(magnitude, stable=True).indices[:count]] = False
    wanted = score.flatten().masked_fill(kept, -math.inf)
    kept[torch.sort(wanted, descending=True, stable=True).indices[:count]] = True
    return kept.view(active.shape)
