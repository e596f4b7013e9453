"""How many weights of each layer are active: whole numbers whose sum is exact."""

from collections.abc import Sequence
from math import prod
from typing import Literal

from debiasctl.api import UsageError

Distribution = Literal["erk", "uniform"]


def active_counts(shapes: Sequence[Sequence[int]], *, sparsity: float, distribution: Distribution) -> list[int]:
    """Return the number of active weights of each layer, at least 1; in all they are round((1 - sparsity) * weights).

    Raises:
        UsageError: if so few are left that some layer would have none.
    """
    sizes = [prod(shape) for shape in shapes]
    total = round((1 - sparsity) * sum(sizes))
    if total < len(sizes):
        raise UsageError(
            f"sparse: `sparsity={sparsity:g}` leaves {total:,} of {sum(sizes):,} weights, fewer than one for each of "
            f"{len(sizes):,} layers. Give a lower sparsity"
        )
    density = 1 - sparsity
    densities = _erdos_renyi(shapes, total) if distribution == "erk" else [density] * len(sizes)
    return _apportioned([one * size for one, size in zip(densities, sizes, strict=True)], sizes, total)


def _erdos_renyi(shapes: Sequence[Sequence[int]], total: int) -> list[float]:
    """Densities in proportion to (n_in + n_out + kernel) / (n_in n_out kernel), none above 1 (arXiv 1911.11134, §3).

    Layers that would have more weights than they have places are dense, and the others share what is left.
    """
    sizes = [prod(shape) for shape in shapes]
    raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    dense: set[int] = set()
    while len(dense) < len(sizes):
        sparse = [number for number in range(len(sizes)) if number not in dense]
        left = total - sum(sizes[number] for number in dense)
        scale = left / sum(raw[number] * sizes[number] for number in sparse)
        full = {number for number in sparse if scale * raw[number] > 1}
        if not full:
            return [1.0 if number in dense else scale * raw[number] for number in range(len(sizes))]
        dense |= full
    return [1.0] * len(sizes)


def _apportioned(shares: Sequence[float], sizes: Sequence[int], total: int) -> list[int]:
    """Whole numbers near the shares, from 1 to each size, whose sum is the total (largest remainders)."""
    counts = [min(size, max(1, int(share))) for share, size in zip(shares, sizes, strict=True)]
    order = sorted(range(len(sizes)), key=lambda number: counts[number] - shares[number])
    step = 1 if sum(counts) < total else -1
    while sum(counts) != total:
        for number in order if step > 0 else reversed(order):
            if sum(counts) == total:
                break
            if 1 <= counts[number] + step <= sizes[number]:
                counts[number] += step
    return counts
